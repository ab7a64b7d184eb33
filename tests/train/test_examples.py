"""What is derived from trajectories, and what of it is learned."""

import shutil
from collections import Counter
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from random import Random

import pytest

from afx_train.batching import Batch, Shown, balanced, by_tokens, collate, show
from afx_train.catalogs import tool_variants
from afx_train.codec import Codec
from afx_train.corpus import Corpus, World, load_corpus
from afx_train.errors import DataError
from afx_train.examples import ExampleMaker, shape_of
from afx_train.job import plan_named
from afx_train.recipe import AdapterPlan, Recipe
from afx_train.task import Task, make_task
from afx_train.trajectory import TrajectoryStep


@pytest.fixture
def tasks(recipe: Recipe, corpus: Corpus, codec: Codec) -> dict[str, Task]:
    """Every adapter's task."""
    return {p.name: make_task(recipe, p, corpus, codec) for p in recipe.adapters}


@pytest.mark.parametrize("name", ["route", "select.files", "args.files"])
def test_only_the_answer_and_the_end_token_are_learned(
    tasks: dict[str, Task], codec: Codec, name: str
) -> None:
    task = tasks[name]
    rows = [Shown(example=e, variant=task.variants[e.group][0]) for e in task.train[:5]]
    batch = collate(rows)
    axis = [token for row in batch.tokens for token in row]
    start = at = 0
    for row, tokens in zip(rows, batch.tokens, strict=True):
        length = len(row.example.target)
        assert batch.targets[at : at + length] == row.example.target
        assert row.example.target[-1] == codec.end_token
        first = start + len(row.example.prompt) - 1
        assert batch.supervised[at : at + length] == tuple(range(first, first + length))
        assert axis[first + 1 : first + length] == list(row.example.target[:-1])
        start, at = start + len(tokens), at + length


def test_an_argument_target_is_the_compact_object_in_the_schemas_order(
    tasks: dict[str, Task], codec: Codec
) -> None:
    texts = {codec.text(e.target) for e in tasks["args.files"].train}
    assert texts == {'{"path":"a b.txt","head":3}', '{"path":"x"}'}
    accepted = {codec.text(t) for e in tasks["args.files"].train for t in e.accept}
    assert accepted == {'{"path":"a b.txt"}'}


def test_the_router_learns_sets_none_and_finish(tasks: dict[str, Task]) -> None:
    labels = Counter((e.label, e.stop) for e in tasks["route"].train)
    assert set(labels) == {
        ("files", "none"),
        ("clock", "none"),
        ("clock", "finish"),
        ("none", "none"),
        ("finish", "finish"),
    }


def test_a_selector_abstains_on_requests_of_other_sets(tasks: dict[str, Task]) -> None:
    labels = Counter(e.label for e in tasks["select.files"].train)
    assert set(labels) == {"read_text_file", "list_directory", "list_allowed", "none", "finish"}
    positives = sum(labels.values()) - labels["none"] - labels["finish"]
    assert labels["none"] == round(0.15 * positives)


def test_a_deprecated_tool_is_never_the_answer(
    recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    (like, *_) = [t for t in corpus.trajectories if t.split == "train" and t.steps]
    step = TrajectoryStep(tool_set="files", tool="read_file", arguments={"path": "x"})
    old = like.model_copy(update={"id": "old", "steps": (step,)})
    world = replace(corpus.worlds[0], trajectories=(*corpus.trajectories, old))
    for name in ("select.files", "args.files"):
        plan = plan_named(recipe, name, Path("recipe.toml"))
        maker = ExampleMaker(recipe, plan, replace(corpus, worlds=(world,)), codec)
        assert "read_file" in maker.variants()["files"][0].names
        made = maker.make("train")
        assert made
        assert all(e.label != "read_file" for e in made)


@pytest.mark.parametrize("count", [3, 4, 6, 7])
def test_from_four_renderings_on_each_name_is_missing_from_one(
    corpus: Corpus, codec: Codec, recipe: Recipe, count: int
) -> None:
    tools = corpus.catalog["files"]
    made = tool_variants("files", tools, codec, recipe.chat, count=count, seed="s")
    missing = Counter(t.name for v in made for t in tools if t.name not in v.names)
    assert len(made) == count
    assert missing == (Counter() if count < 4 else Counter(t.name for t in tools))


def test_each_name_is_missing_from_one_catalog_and_none_is_then_right(
    tasks: dict[str, Task], codec: Codec
) -> None:
    task = tasks["select.files"]
    variants = task.variants["files"]
    assert len({v.static for v in variants}) == len(variants)
    example = next(e for e in task.train if e.label == "list_directory" and e.stop == "none")
    shares = task.settings.examples.model_copy(update={"gold_removed": 1.0})
    shown = show(example, variants, shares, none_target=codec.label("none"), rng=Random(1))
    assert "list_directory" not in shown.variant.names
    assert codec.text(shown.example.target) == "none"
    kept = shares.model_copy(update={"gold_removed": 0.0, "plain_share": 0.0})
    for seed in range(20):
        row = show(example, variants, kept, none_target=(), rng=Random(seed))
        assert "list_directory" in row.variant.names


def test_an_epoch_is_the_same_for_the_same_seed_and_rests_easy_examples(
    tasks: dict[str, Task],
) -> None:
    task = tasks["route"]
    assert task.batches(0) == task.batches(0)
    assert task.batches(0) != task.batches(1)
    easy = {e.key for e in task.train}
    rested = sum(len(b.keys) for b in task.batches(1, easy))
    assert 0 < rested < 0.6 * sum(len(b.keys) for b in task.batches(1))


def test_an_example_whose_right_name_is_missing_rests_as_well(
    recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    update = {
        "examples": recipe.examples.model_copy(update={"gold_removed": 1.0}),
        "training": recipe.training.model_copy(update={"easy_kept": 0.0}),
    }
    plan = plan_named(recipe, "select.files", Path("recipe.toml"))
    task = make_task(recipe.model_copy(update=update), plan, corpus, codec)
    labels, none = {e.key: e.label for e in task.train}, codec.label("none")
    rows = [pair for b in task.batches(0) for pair in zip(b.keys, _targets(b), strict=True)]
    lost = {key for key, target in rows if target == none and labels.get(key) != "none"}
    later = {key for batch in task.batches(1, lost) for key in batch.keys}
    assert lost
    assert later
    assert not lost & later


def test_a_label_of_later_steps_is_balanced_apart_from_that_of_first_ones(
    tasks: dict[str, Task],
) -> None:
    first = next(e for e in tasks["route"].train if e.label == "clock" and e.stop == "none")
    later = next(e for e in tasks["route"].train if e.label == "clock" and e.stop == "finish")
    other = next(e for e in tasks["route"].train if e.label == "files")
    many = [replace(first, id=f"first{n}") for n in range(30)]
    few = [replace(later, id=f"later{n}") for n in range(3)] + [other] * 3
    kept = Counter(e.stop for e in balanced([*many, *few], cap=2.0, rng=Random(1)))
    assert kept == {"none": 6 + 3, "finish": 3}


def test_argument_objects_of_a_seldom_shape_come_earlier(tasks: dict[str, Task]) -> None:
    example = next(e for e in tasks["route"].train if e.stop == "none")
    usual = [replace(example, id=f"u{n}", shape="{path:}") for n in range(900)]
    seldom = [replace(example, id=f"s{n}", shape="{dry:True,path:}") for n in range(100)]
    drawn = Counter(e.shape for e in balanced([*usual, *seldom], cap=2.0, rng=Random(1))[:200])
    assert 35 <= drawn["{dry:True,path:}"] <= 65  # an even draw has 20, the root's share is 50
    single = [replace(example, id=f"x{n}", shape=f"{{n{n}:}}") for n in range(100)]
    drawn = Counter(e.shape for e in balanced([*usual, *single], cap=2.0, rng=Random(1))[:200])
    assert 100 <= drawn["{path:}"]  # shapes that occur once are no more than one of thirty


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({"path": "a", "dry": True}, "{dry:True,path:}"),
        ({"names": []}, "{names:[-]}"),
        ({"names": ["a"]}, "{names:[]}"),
        ({"names": ["a", "b", "c"]}, "{names:[+]}"),
        ({"edits": [{"old": "x"}, {"old": "y"}]}, "{edits:[{old:}+]}"),
        ({"query": "SELECT COUNT(*) FROM a WHERE b = 'C'"}, "{query:COUNT FROM SELECT WHERE}"),
        ({"path": "README.md", "n": 3}, "{n:,path:}"),
    ],
)
def test_a_shape_is_which_keys_and_how_many(arguments: dict[str, object], shape: str) -> None:
    assert shape_of(arguments) == shape


def test_examples_without_context_meet_every_rendering_of_the_catalog(
    recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    """And each one the same in every epoch, so that what the base computed is recalled."""
    items = [
        t.model_copy(update={"id": f"{t.id}-{n}", "context": "", "request": f"{t.request} {n}"})
        for t in corpus.trajectories
        for n in range(12)
    ]
    world = World(catalog=corpus.catalog, trajectories=tuple(items))
    task = make_task(recipe, recipe.adapters[0], replace(corpus, worlds=(world,)), codec)
    seen = [
        {key: batch.static for batch in task.batches(epoch) for key in batch.keys}
        for epoch in (0, 1)
    ]
    assert {*seen[0].values()} == {variant.static for variant in task.variants[""]}
    both = seen[0].keys() & seen[1].keys()
    assert both
    assert all(seen[0][key] == seen[1][key] for key in both)


def _many(corpus: Corpus) -> World:
    """Ten tool sets like `files`; training asks for the first seven."""
    sets = [f"files{n}" for n in range(10)]
    files = corpus.catalog["files"]
    items = [
        t.model_copy(
            update={
                "split": "dev" if name > "files6" else t.split,
                "id": f"{t.id}-{name}",
                "steps": tuple(s.model_copy(update={"tool_set": name}) for s in t.steps[:1]),
                "verified": False,
            }
        )
        for name in sets
        for t in corpus.trajectories
        if not t.steps or t.steps[0].tool_set == "files"
    ]
    return World(catalog=dict.fromkeys(sets, files), trajectories=tuple(items))


def test_many_tool_sets_are_offered_in_parts_and_worlds_apart(
    recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    many = _many(corpus)
    sets = list(many.catalog)
    shares = recipe.examples.model_copy(
        update={"sets_offered": 4, "catalog_variants": 3, "gold_removed": 0.3}
    )
    wide = recipe.model_copy(update={"examples": shares})
    both = replace(corpus, worlds=(*corpus.worlds, many))
    task = make_task(wide, recipe.adapters[0], both, codec)
    unseen = {f"files{n}" for n in range(7, 10)}
    (home,) = {e.group for e in task.train if e.label == "clock"}
    (away,) = {e.group for e in task.train if e.label in sets}
    assert home != away
    assert all(1 <= len(v.names) <= 4 for v in task.variants[away])
    assert Counter(n for v in task.variants[away] for n in v.names) == dict.fromkeys(sets, 3)
    assert {n for v in task.variants[home] for n in v.names} == {"files", "clock"}
    assert {n for v in task.variants[away] if v.held_out for n in v.names} == unseen
    named = {v.static: v.names for v in task.variants[away] if not v.held_out}
    assert not unseen & {n for names in named.values() for n in names}
    kept = removed = 0
    for batch in task.batches(0):
        for key, target in zip(batch.keys, _targets(batch), strict=True):
            label = next(e.label for e in task.train if e.key == key)
            if label in sets:
                shown = label in named[batch.static]
                assert target == codec.label(label if shown else "none")
                kept, removed = kept + shown, removed + (not shown)
    assert kept > removed > 0
    rows = [row for part in task.evaluation(task.dev) for row in part if row.example.label in sets]
    assert rows
    assert all(row.example.label in row.variant.names for row in rows)
    assert {tool.tool_set for tool in task.catalog()} == {"files", "clock"}


def test_guests_of_many_sets_stand_beside_the_small_world(
    recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    many, own = _many(corpus), set(corpus.catalog)
    shares = recipe.examples.model_copy(
        update={"sets_offered": 4, "catalog_variants": 2, "guests": 2, "gold_removed": 0.3}
    )
    wide = recipe.model_copy(update={"examples": shares})
    task = make_task(
        wide, recipe.adapters[0], replace(corpus, worlds=(*corpus.worlds, many)), codec
    )
    (home,) = {e.group for e in task.train if e.label == "clock"}
    (away,) = {e.group for e in task.train if e.label in many.catalog}
    mixed = [v for v in task.variants[home] if set(v.names) != own]
    assert len(mixed) == 2
    for variant in mixed:
        assert own < set(variant.names)
        assert 1 <= len(set(variant.names) - own) <= 2
        assert set(variant.names) - own <= many.taught
    beside = [v for v in task.variants[away] if own & set(v.names)]
    assert all(own < set(v.names) and len(v.names) <= len(own) + 2 for v in beside)
    assert {n for v in beside for n in v.names} == own | set(many.catalog)
    assert all(v.unchecked for v in beside)
    statics = {v.static for v in beside}
    shown = [(b, t) for b in task.batches(0) for t in _targets(b) if b.static in statics]
    assert shown
    assert all(target != codec.label("none") for _, target in shown)
    rows = [row for part in task.evaluation(task.dev) for row in part]
    assert all(task.constraint(row) for row in rows)


def test_a_selector_refuses_what_comes_near_its_own_server(
    recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    (like, *_) = [t for t in corpus.trajectories if t.split == "train" and not t.steps]
    near = like.model_copy(update={"id": "near", "kind": "none/files"})
    world = replace(corpus.worlds[0], trajectories=(*corpus.trajectories, near))
    plan = plan_named(recipe, "select.files", Path("recipe.toml"))
    made = ExampleMaker(recipe, plan, replace(corpus, worlds=(world,)), codec).make("train")
    refused = {e.id for e in made if e.label == "none"}
    assert "near/none" in refused
    assert not any(e.startswith(f"{like.id}/") for e in refused)


def test_a_selector_knows_nothing_of_requests_made_where_its_set_is_not_offered(
    recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    strange = [t.model_copy(update={"id": f"away-{t.id}"}) for t in corpus.trajectories]
    away = World(catalog={"clock2": corpus.catalog["clock"]}, trajectories=tuple(strange))
    both = replace(corpus, worlds=(*corpus.worlds, away))
    plan = plan_named(recipe, "select.files", Path("recipe.toml"))
    made = ExampleMaker(recipe, plan, both, codec).make("train")
    assert made
    assert not any(example.id.startswith("away-") for example in made)
    assert both.offering({"files"}).worlds == corpus.worlds
    assert both.offering({"clock2"}).worlds == (away,)


def test_a_recipe_that_leaves_no_row_to_learn_is_refused(
    recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    shares = recipe.examples.model_copy(update={"max_row_tokens": 16})
    short = recipe.model_copy(update={"examples": shares})
    with pytest.raises(DataError, match=r"max_row_tokens \(16\) leave none of its \d+ examples"):
        make_task(short, short.adapters[0], corpus, codec)


def test_two_folders_cannot_give_one_tool_set_other_tools(workspace: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(workspace / "data", tmp_path / "data")
    assert len(load_corpus([workspace / "data", copy]).catalog) == 2
    tools = copy / "tools" / "clock.json"
    tools.write_text(tools.read_text().replace("Tell the time", "Set the time"))
    with pytest.raises(DataError, match="'clock' has other tools in"):
        load_corpus([workspace / "data", copy])


def _targets(batch: Batch) -> list[tuple[int, ...]]:
    ends = list(accumulate(batch.lengths))
    return [batch.targets[end - size : end] for end, size in zip(ends, batch.lengths, strict=True)]


def test_batches_hold_one_static_prefix_and_keep_the_budget(tasks: dict[str, Task]) -> None:
    task = tasks["route"]
    for batch in task.batches(0):
        widths = [len(b) + len(t) for b, t in zip(batch.before, batch.tokens, strict=True)]
        assert sum(widths) <= 400 or len(widths) == 1
        assert batch.static in {v.static for v in task.variants[""]}
    rows = [Shown(example=e, variant=task.variants[""][0]) for e in task.train]
    assert [r for part in by_tokens(rows, 100) for r in part] == rows


def test_with_the_instruction_boundary_the_base_computes_the_conversation(
    recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    late = recipe.model_copy(update={"boundary": "instruction"})
    plan = plan_named(recipe, "select.files", Path("recipe.toml"))
    example = ExampleMaker(late, plan, corpus, codec).make("train")[0]
    assert "please" in codec.text(example.before)
    assert codec.text(example.prompt) == "assistant\nTool:\n"


def test_a_general_selector_learns_every_set(recipe: Recipe, corpus: Corpus, codec: Codec) -> None:
    plan = AdapterPlan(name="select", subtask="select")
    examples = ExampleMaker(recipe, plan, corpus, codec).make("train")
    assert {e.group for e in examples} == {"files", "clock"}
    assert len({e.key for e in examples}) == len(examples)


def test_a_dropped_context_is_dropped_from_choices_in_training_only(
    recipe: Recipe, corpus: Corpus, codec: Codec
) -> None:
    shares = recipe.examples.model_copy(update={"context_dropped": 1.0})
    bare = recipe.model_copy(update={"examples": shares})
    shown = [t.model_copy(update={"context": "Root: /w"}) for t in corpus.trajectories]
    corpus = replace(corpus, worlds=(World(catalog=corpus.catalog, trajectories=tuple(shown)),))
    for name, kept in [("route", False), ("select.files", False), ("args.files", True)]:
        plan = plan_named(bare, name, Path("recipe.toml"))
        maker = ExampleMaker(bare, plan, corpus, codec)
        assert any(e.before for e in maker.make("train")) is kept
        assert all(e.before for e in maker.make("dev"))

"""Training end to end on the tiny model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers import AutoModelForCausalLM

from afx_train.codec import Codec
from afx_train.corpus import Corpus
from afx_train.errors import RecipeError, TrainingDiverged
from afx_train.evaluate import decisions, evaluate_adapter
from afx_train.job import run_job
from afx_train.loop import History, Progress, learning_rate, token_losses, train
from afx_train.marks import Marker, Marking
from afx_train.model import AdaptedModel, load_model
from afx_train.outputs import base_licence, read_scale, read_weights, take_up
from afx_train.recipe import Recipe, Training
from afx_train.refusals import best_threshold
from afx_train.scoring import score_targets
from afx_train.starts import fresh_weights
from afx_train.task import Task, make_task
from agentflux.contracts.cards import AdapterCard, read_card
from agentflux.contracts.grammar import arguments_grammar

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


class Killed(Exception):
    """Stands for the end of the process."""


def test_of_equally_good_epochs_the_latest_is_kept_and_patience_counts_from_the_first() -> None:
    history = History(job="job", dev=[0.5, 0.7, 0.6, 0.7])
    assert history.best == 3
    assert history.stale(2)
    assert not history.stale(3)
    assert not history.stale(None)


@pytest.fixture
def task(recipe: Recipe, corpus: Corpus, codec: Codec) -> Task:
    """The router's task."""
    return make_task(recipe, recipe.adapters[0], corpus, codec)


@pytest.fixture
def model(workspace: Path, task: Task) -> AdaptedModel:
    """A fresh adapter on the tiny base."""
    return _fresh(workspace, task)


def test_a_killed_run_goes_on_to_the_same_weights(
    workspace: Path, task: Task, model: AdaptedModel, tmp_path: Path
) -> None:
    whole, history = train(task, model, tmp_path, job="j", resume=False, report=_quiet)

    def kill(progress: Progress) -> None:
        if progress.epoch == 3:
            raise Killed

    (tmp_path / "checkpoint.pt").unlink()
    with pytest.raises(Killed):
        train(task, _fresh(workspace, task), tmp_path, job="j", resume=False, report=kill)
    seen: list[Progress] = []
    again, resumed = train(
        task, _fresh(workspace, task), tmp_path, job="j", resume=True, report=seen.append
    )
    assert seen[0].epoch == 3
    assert resumed.losses == history.losses
    assert resumed.dev == history.dev
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_checkpoint_of_another_job_is_left_aside(
    workspace: Path, task: Task, model: AdaptedModel, tmp_path: Path
) -> None:
    train(task, model, tmp_path, job="one", resume=False, report=_quiet)
    _, history = train(
        task, _fresh(workspace, task), tmp_path, job="other", resume=True, report=_quiet
    )
    assert history.job == "other"
    assert history.epoch == 3


def test_training_lowers_the_loss(task: Task, model: AdaptedModel, tmp_path: Path) -> None:
    _, history = train(task, model, tmp_path, job="j", resume=False, report=_quiet)
    assert history.losses == sorted(history.losses, reverse=True)
    assert history.losses[-1] < 0.8 * history.losses[0]


@pytest.mark.parametrize(("dev", "best"), [((0.1, 0.9, 0.2), 1), ((0.5, 0.1, 0.5), 2)])
def test_the_best_epochs_weights_are_kept(
    task: Task,
    model: AdaptedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dev: tuple[float, ...],
    best: int,
) -> None:
    told, seen = iter(dev), list[dict[str, torch.Tensor]]()
    monkeypatch.setattr("afx_train.loop._Run._dev_accuracy", lambda _: next(told))

    def report(progress: Progress) -> None:
        if progress.dev is not None:
            weights = get_peft_model_state_dict(model.peft)
            seen.append({name: tensor.clone() for name, tensor in weights.items()})

    kept, history = train(task, model, tmp_path, job="j", resume=False, report=report)
    assert (history.best, len(seen)) == (best, len(dev))
    same = [all(torch.equal(kept[name], one[name]) for name in kept) for one in seen]
    assert same == [number == best for number in range(len(dev))]


def test_the_result_is_averaged_with_the_start(
    workspace: Path, recipe: Recipe, corpus: Corpus, codec: Codec, tmp_path: Path
) -> None:
    whole = _with_training(recipe, corpus, codec, epochs=1)
    half = _with_training(recipe, corpus, codec, epochs=1, start_share=0.25)
    model = _fresh(workspace, whole)
    start = {k: v.clone() for k, v in get_peft_model_state_dict(model.peft).items()}
    trained, _ = train(whole, model, tmp_path, job="a", resume=False, report=_quiet)
    mixed = _fresh(workspace, half)
    kept, _ = train(half, mixed, tmp_path, job="b", resume=False, report=_quiet)
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor, 0.75 * trained[name] + 0.25 * start[name])
        assert torch.equal(get_peft_model_state_dict(mixed.peft)[name], trained[name])


def test_accumulated_batches_make_one_step_of_all_their_targets(
    workspace: Path, recipe: Recipe, corpus: Corpus, codec: Codec, tmp_path: Path
) -> None:
    task = _with_training(recipe, corpus, codec, accumulate=99, epochs=1, easy_loss=0.0)
    model, other = _fresh(workspace, task), _fresh(workspace, task)
    batches, training = task.batches(0), task.settings.training
    assert len(batches) > 1
    weights, history = train(task, model, tmp_path, job="j", resume=False, report=_quiet)
    assert history.step == 1
    optimizer = torch.optim.AdamW(
        other.trained, lr=learning_rate(training, 0.0), weight_decay=0.0, betas=(0.9, 0.98)
    )
    count = sum(len(batch.targets) for batch in batches)
    for batch in batches:
        (token_losses(other, batch).sum() / count).backward()
    torch.nn.utils.clip_grad_norm_(other.trained, training.clip)
    optimizer.step()
    expected = get_peft_model_state_dict(other.peft)
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_training_stops_after_epochs_that_were_no_better(
    workspace: Path, recipe: Recipe, corpus: Corpus, codec: Codec, tmp_path: Path
) -> None:
    task = _with_training(recipe, corpus, codec, patience=2, epochs=9, learning_rate=1e-12)
    model = _fresh(workspace, task)
    _, history = train(task, model, tmp_path, job="j", resume=False, report=_quiet)
    assert (history.epoch, history.best) == (3, 2)  # all equally good: the latest


def test_a_diverging_run_ends_with_the_step(workspace: Path, task: Task, tmp_path: Path) -> None:
    broken = _fresh(workspace, task)
    broken.trained[0].data.fill_(torch.nan)
    with pytest.raises(TrainingDiverged) as raised:
        train(task, broken, tmp_path, job="j", resume=False, report=_quiet)
    assert raised.value.adapter == "route"
    assert raised.value.step == 0


def test_the_loss_reads_nothing_but_the_targets_and_what_stands_before_them(
    task: Task, model: AdaptedModel
) -> None:
    batch = task.batches(0)[0]
    losses = token_losses(model, batch)
    start = len(batch.tokens[0])
    other = ((7,) * start, *batch.tokens[1:])
    moved = token_losses(
        model,
        replace(batch, tokens=other),
    )
    own = batch.lengths[0]
    assert len(losses) == sum(batch.lengths)
    assert not torch.allclose(losses[:own], moved[:own])
    torch.testing.assert_close(losses[own:], moved[own:], rtol=1e-5, atol=1e-6)


def test_a_finished_adapter_loads_in_plain_peft_and_is_not_trained_twice(
    workspace: Path, tmp_path: Path
) -> None:
    path, out = workspace / "recipe.toml", tmp_path / "out"
    made = run_job(path, "args.files", out, resume=False, report=_quiet)
    again = run_job(path, "args.files", out, resume=False, report=_quiet)
    assert not made.skipped
    assert again.skipped
    assert again.card == made.card == read_card(out / "args.files")
    assert sorted(p.name for p in (out / "args.files").iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "afx_adapter.json",
        "training_log.json",
    ]
    assert [p.name for p in out.iterdir()] == ["args.files"]
    base = AutoModelForCausalLM.from_pretrained(workspace / "base")
    peft = PeftModel.from_pretrained(base, str(out / "args.files"))
    saved = read_weights(out / "args.files")
    loaded = {
        name.replace(".default", ""): value
        for name, value in peft.state_dict().items()
        if "lora_" in name
    }
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(loaded[name], saved[name].float()) for name in saved)
    assert str(workspace) not in (out / "args.files" / "adapter_config.json").read_text()


def test_a_warm_start_from_a_folder_goes_on_where_that_adapter_stopped(
    workspace: Path, tmp_path: Path
) -> None:
    first = workspace / "recipe.toml"
    made = run_job(first, "args.files", tmp_path / "old", resume=False, report=_quiet)
    path = tmp_path / "recipe.toml"
    text = (workspace / "recipe.toml").read_text(encoding="utf-8")
    text = text.replace('"base"', f'"{workspace}/base"').replace('"data"', f'"{workspace}/data"')
    later = 'name = "args.files"\nwarm_start = "old/args.files"'
    path.write_text(text.replace('name = "args.files"', later), encoding="utf-8")
    log = json.loads((tmp_path / "old" / "args.files" / "training_log.json").read_text())
    more = run_job(path, "args.files", tmp_path / "new", resume=False, report=_quiet)
    assert more.card.training["job_sha256"] != made.card.training["job_sha256"]
    begun = json.loads((tmp_path / "new" / "args.files" / "training_log.json").read_text())
    assert begun["epochs"][0] < log["epochs"][0]
    path.write_text(text.replace('name = "args.files"', later.replace("old", "gone")))
    with pytest.raises(RecipeError, match="holds no adapter; give the folder of a trained adapter"):
        run_job(path, "args.files", tmp_path / "new", resume=False, report=_quiet)


def test_a_warm_start_from_a_damaged_folder_says_which_file(
    workspace: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old" / "args.files"
    run_job(workspace / "recipe.toml", "args.files", old.parent, resume=False, report=_quiet)
    path = tmp_path / "recipe.toml"
    text = (workspace / "recipe.toml").read_text(encoding="utf-8")
    text = text.replace('"base"', f'"{workspace}/base"').replace('"data"', f'"{workspace}/data"')
    later = 'name = "args.files"\nwarm_start = "old/args.files"'
    path.write_text(text.replace('name = "args.files"', later), encoding="utf-8")
    for content in ("{", "{}", '{"r": 0, "lora_alpha": 1}'):
        (old / "adapter_config.json").write_text(content, encoding="utf-8")
        with pytest.raises(RecipeError, match=r"adapter_config\.json"):
            run_job(path, "args.files", tmp_path / "new", resume=False, report=_quiet)
    (old / "adapter_config.json").unlink()
    with pytest.raises(RecipeError, match="holds no adapter"):
        run_job(path, "args.files", tmp_path / "new", resume=False, report=_quiet)


def test_an_adapter_does_not_start_from_the_folder_that_it_is_trained_into(
    workspace: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old" / "args.files"
    run_job(workspace / "recipe.toml", "args.files", old.parent, resume=False, report=_quiet)
    before = read_card(old)
    path = tmp_path / "recipe.toml"
    text = (workspace / "recipe.toml").read_text(encoding="utf-8")
    text = text.replace('"base"', f'"{workspace}/base"').replace('"data"', f'"{workspace}/data"')
    later = 'name = "args.files"\nwarm_start = "old/args.files"'
    path.write_text(text.replace('name = "args.files"', later), encoding="utf-8")
    (tmp_path / "link").symlink_to(old.parent, target_is_directory=True)
    for out in (old.parent, tmp_path / "link"):
        with pytest.raises(RecipeError, match="'args.files': .*train into another folder"):
            run_job(path, "args.files", out, resume=True, report=_quiet)
    assert read_card(old) == before


@pytest.mark.parametrize("done", [0, 1])
def test_a_kill_while_an_adapter_takes_its_place_costs_neither_it_nor_the_one_before(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, done: int
) -> None:
    """done: renames before the kill."""
    path, out = tmp_path / "recipe.toml", tmp_path / "out"
    text = (
        (workspace / "recipe.toml").read_text(encoding="utf-8").replace("epochs = 3", "epochs = 1")
    )
    text = text.replace('"base"', f'"{workspace}/base"').replace('"data"', f'"{workspace}/data"')
    path.write_text(text, encoding="utf-8")
    run_job(path, "args.files", out, resume=False, report=_quiet)
    path.write_text(text.replace("seed = 5", "seed = 6"), encoding="utf-8")
    renamed, rename = list[Path](), Path.rename

    def until_killed(source: Path, target: Path) -> Path:
        if len(renamed) == done:
            raise Killed
        renamed.append(source)
        return rename(source, target)

    with monkeypatch.context() as killing, pytest.raises(Killed):
        killing.setattr(Path, "rename", until_killed)
        run_job(path, "args.files", out, resume=False, report=_quiet)
    whole = {card.training["seed"] for at in out.rglob("*") if (card := _card_in(at))}
    assert whole == {"5", "6"}
    taken_up = run_job(path, "args.files", out, resume=False, report=_quiet)
    assert taken_up.skipped
    assert taken_up.card.training["seed"] == "6"
    assert [p.name for p in out.iterdir()] == ["args.files"]


def _card_in(folder: Path) -> AdapterCard | None:
    return read_card(folder) if folder.is_dir() else None


def test_an_adapter_that_is_half_written_does_not_take_the_place_of_a_whole_one(
    tmp_path: Path,
) -> None:
    folder, partial = tmp_path / "route", tmp_path / "route.writing"
    for one in (folder, partial):
        one.mkdir()
        (one / "adapter_config.json").write_text(one.name, encoding="utf-8")
    for card in (None, '{"name": "ro'):
        if card is not None:
            (partial / "afx_adapter.json").write_text(card, encoding="utf-8")
        take_up(folder)
        assert (folder / "adapter_config.json").read_text(encoding="utf-8") == "route"


@pytest.mark.parametrize("content", [b"\x10\0\0\0\0\0\0\0{", b"", None])
def test_weights_that_were_cut_off_or_are_not_there_are_refused_by_their_file(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "adapter_model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError) as raised:
        read_weights(tmp_path)
    assert raised.value.where == str(path)


@pytest.mark.parametrize("key", ["rank_pattern", "alpha_pattern"])
def test_an_adapter_whose_layers_differ_in_scale_is_no_start(tmp_path: Path, key: str) -> None:
    plain = {"r": 8, "lora_alpha": 16, "rank_pattern": {}, "alpha_pattern": {}}
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(plain), encoding="utf-8")
    assert read_scale(tmp_path) == 2
    path.write_text(json.dumps(plain | {key: {"q_proj": 4}}), encoding="utf-8")
    with pytest.raises(RecipeError, match=key):
        read_scale(tmp_path)


def test_a_model_card_states_data_job_scores_and_licence(workspace: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(workspace / "base", base)
    (base / "afx_source.json").write_text('{"id": "tiny", "licence": "Apache-2.0"}')
    path = tmp_path / "recipe.toml"
    text = (workspace / "recipe.toml").read_text(encoding="utf-8")
    path.write_text(
        text.replace('"data"', f'"{workspace}/data"').replace("epochs = 3", "epochs = 1")
    )
    card = run_job(path, "args.files", tmp_path, resume=False, report=_quiet).card
    page = (tmp_path / "args.files" / "README.md").read_text(encoding="utf-8")
    assert page.startswith("---\nlibrary_name: peft\nlicense: apache-2.0\n")
    for fact in (card.training["data_sha256"], card.training["job_sha256"], "| epoch |"):
        assert fact in page
    assert int(card.training["steps"]) > 0
    assert base_licence(workspace / "base") == "unknown"
    (base / "afx_source.json").unlink()
    (base / "README.md").write_text("---\nlanguage: en\nlicense: mit\n---\n", encoding="utf-8")
    assert base_licence(base) == "mit"


def test_evaluation_gives_the_probability_that_teacher_forcing_gives(
    task: Task, model: AdaptedModel
) -> None:
    (report,) = evaluate_adapter(model, task, task.dev, split="dev")
    rows = task.evaluation(task.dev)[0]
    forced = score_targets(model, rows, [task.constraint(row) for row in rows])
    for verdict, greedy in zip(report.verdicts, forced, strict=False):
        if verdict.right:
            assert verdict.probability == pytest.approx(greedy.probability, rel=1e-4)
        else:
            assert verdict.probability >= greedy.probability


def test_teacher_forcing_tells_what_constrained_decoding_writes(
    recipe: Recipe, corpus: Corpus, codec: Codec, workspace: Path
) -> None:
    task = make_task(recipe, recipe.adapters[2], corpus, codec)
    model = _fresh(workspace, task)
    _learn(task, model)
    rows = task.evaluation(task.dev)[0]
    scores = score_targets(model, rows, [task.constraint(row) for row in rows])
    written = [_decode(model, task, row) == row.example.target[:-1] for row in rows]
    assert [s.written for s in scores] == written
    assert any(written)


def test_marking_writes_the_score_and_the_threshold_into_the_card(
    workspace: Path, tmp_path: Path
) -> None:
    path = workspace / "recipe.toml"
    run_job(path, "select.files", tmp_path, resume=False, report=_quiet)
    wanted = Marking(split="dev", calibrate="right")
    (report,) = Marker(path, wanted).adapters(tmp_path, ["select.files"])
    card = read_card(tmp_path / "select.files")
    assert card is not None
    assert card.scores["dev_exact"] == round(report.accuracy.value, 4)
    assert card.calibration.min_probability == best_threshold(decisions(report.verdicts)).threshold


def test_the_learning_rate_rises_then_falls() -> None:
    training = Training(learning_rate=1.0, warmup=0.1)
    rates = [learning_rate(training, done / 20) for done in range(20)]
    assert rates[0] == pytest.approx(0.05)
    assert max(rates) == rates[2] == pytest.approx(1.0)
    assert rates[2:] == sorted(rates[2:], reverse=True)


def _with_training(recipe: Recipe, corpus: Corpus, codec: Codec, **changed: object) -> Task:
    """The router's task with other training settings."""
    training = Training.model_validate(recipe.training.model_dump() | changed)
    other = recipe.model_copy(update={"training": training})
    return make_task(other, other.adapters[0], corpus, codec)


def _fresh(workspace: Path, task: Task) -> AdaptedModel:
    made = load_model(workspace / "base", task.settings.lora)
    fresh_weights(made, seed=task.recipe.seed)
    return made


def _learn(task: Task, model: AdaptedModel) -> None:
    optimizer = torch.optim.Adam(model.trained, lr=1e-2)
    for epoch in range(30):
        for batch in task.batches(epoch):
            token_losses(model, batch).mean().backward()
            optimizer.step()
            optimizer.zero_grad()


def _decode(model: AdaptedModel, task: Task, row: object) -> tuple[int, ...]:
    """Greedy decoding under the grammar, token by token; the end token is left out."""
    import llguidance

    from afx_train.batching import Shown
    from afx_train.model import Rows

    assert isinstance(row, Shown)
    tool = next(t for t in task.corpus.catalog["files"] if t.name == row.example.label)
    matcher = llguidance.LLMatcher(task.codec.constrained, arguments_grammar(tool))
    done: tuple[int, ...] = ()
    while not matcher.is_stopped() and len(done) < 60:
        if forced := tuple(matcher.compute_ff_tokens()):
            step = forced
        else:
            rows = Rows(before=[row.example.before], tokens=[row.example.prompt + done])
            with torch.no_grad():
                logits = model.logits(model.hidden(row.variant.static, rows)[-1:])[0]
            bias = torch.frombuffer(bytearray(matcher.compute_logit_bias()), dtype=torch.uint8)
            step = (int(logits.masked_fill(bias[: len(logits)] == 0, -torch.inf).argmax()),)
        matcher.consume_tokens(list(step))
        done += step
    return done


def _quiet(_: Progress) -> None:
    return None

"""Which parameters count as copied."""

from afx_train.copied import Copying, copied_parameters
from afx_train.trajectory import Trajectory, TrajectoryStep
from agentflux.contracts.spans import ANY_NUMBER, EMPTY


def trajectory(number: int, request: str, arguments: dict[str, object], split: str) -> Trajectory:
    step = TrajectoryStep(tool_set="files", tool="read", arguments=arguments, observation="seen")
    return Trajectory.model_validate(
        {
            "id": f"t{number}",
            "request": request,
            "steps": [step],
            "phrasing": "p",
            "kind": "single",
            "split": split,
        }
    )


def test_a_parameter_is_copied_when_nearly_all_training_values_stand_before_it() -> None:
    copies = [
        trajectory(n, f"read file{n}.txt please", {"path": f"file{n}.txt", "mode": "r"}, "train")
        for n in range(20)
    ]
    other_split = [trajectory(99, "read it", {"path": "made up"}, "dev")]
    mode = {"mode": ("r",)}  # a word of its own
    assert copied_parameters(copies + other_split) == {("files", "read"): Copying(("path",), mode)}
    assert copied_parameters(copies[:19]) == {}
    made_up = [*copies, trajectory(98, "x", {"path": "made up"}, "train")]
    assert copied_parameters(made_up) == {("files", "read"): Copying((), mode)}


def test_a_parameter_is_worded_when_its_words_stood_before_or_are_its_own() -> None:
    items = [
        trajectory(n, f"the {n} newest of table_{n}, under 'plan {n}'", made, "train")
        for n in range(20)
        for made in (
            {"query": f"SELECT * FROM table_{n} LIMIT {n + 1}"},
            {"path": f"plan/table {n}.md"},
            {"text": "" if n % 2 else f"newest {n}"},
        )
    ]
    assert copied_parameters(items)["files", "read"].worded == {
        "path": ("md",),
        "query": (ANY_NUMBER, "FROM", "LIMIT", "SELECT"),
        "text": (EMPTY,),
    }
    # a word of one value in twenty is none of the parameter's own
    strange = [trajectory(90, "the newest", {"path": "invented.md"}, "train")]
    assert "path" not in copied_parameters(items + strange)["files", "read"].worded
    for text in ("plan/newest\n", "plan\tnewest", " newest"):  # no grammar of words allows these
        broken = [trajectory(90, "the newest plan", {"path": text}, "train")]
        assert "path" not in copied_parameters(items + broken)["files", "read"].worded


def test_a_worded_parameter_is_named_when_shown_names_stand_outside_its_quotes() -> None:
    def asked(number: int, query: str, context: str) -> Trajectory:
        item = trajectory(number, f"plan x, all {number} orders", {"query": query}, "train")
        return item.model_copy(update={"context": context})

    shown = "orders(order_no, plan)"
    told = [
        asked(n, f"SELECT order_no FROM orders WHERE plan = 'x' AND order_no > {n}", shown)
        for n in range(40)
    ]
    untold = [asked(90 + n, "SELECT x FROM orders WHERE plan = 'x'", "") for n in range(5)]
    assert copied_parameters([*told, *untold])["files", "read"].named == ("query",)
    strange = [asked(80, "SELECT order_no FROM orders WHERE plan = x AND order_no > 80", shown)]
    assert copied_parameters([*told, *strange])["files", "read"].named == ()
    assert copied_parameters(untold * 10)["files", "read"].named == ()


def test_paths_that_are_always_or_never_the_folder_of_the_context() -> None:
    def asked(number: int, repo: str, file: str, context: str) -> Trajectory:
        arguments = {"repo": repo, "file": file, "text": f"plan {number}"}
        item = trajectory(number, f"add {file} to plan {number}", arguments, "train")
        return item.model_copy(update={"context": context})

    told = [asked(n, f"/srv/app{n}", f"notes/a{n}.md", f"repo: /srv/app{n}") for n in range(40)]
    untold = [asked(90, "here", "notes/a.md", "the repository is here")]
    found = copied_parameters([*told, *untold])["files", "read"]
    assert (found.folders, found.inner) == (("repo",), ("file",)), "no path is no inner one"
    other = [asked(80, "add", "a80.md", "repo: /srv/app")]
    assert copied_parameters([*told, *other])["files", "read"].folders == ()
    itself = [asked(80, "/srv/app", "/srv/app/", "repo: /srv/app")]
    assert copied_parameters([*told, *itself])["files", "read"].inner == ()
    assert copied_parameters(untold * 40)["files", "read"].folders == ()


def test_a_value_may_come_from_an_earlier_observation() -> None:
    items = []
    for number in range(20):
        first = TrajectoryStep(
            tool_set="files", tool="list", arguments={}, observation=f"[FILE] n{number}.md"
        )
        second = TrajectoryStep(
            tool_set="files", tool="read", arguments={"path": f"n{number}.md"}, observation="."
        )
        item = trajectory(number, "read the only file", {}, "train")
        items.append(item.model_copy(update={"steps": (first, second)}))
    assert copied_parameters(items) == {("files", "read"): Copying(("path",))}

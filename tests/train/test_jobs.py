"""The plan of jobs: order, waiting, failures."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from afx_train.codec import Codec
from afx_train.corpus import Corpus
from afx_train.jobs import JobResult, Launch, OnProgress, retried, run_in_process, run_plan
from afx_train.recipe import AdapterPlan, read_recipe
from afx_train.task import make_task

LAUNCH = Launch(recipe=Path("r"), out=Path("o"), threads=1, resume=False)


def plan(name: str, warm_start: str | None = None) -> AdapterPlan:
    """A router's plan."""
    return AdapterPlan(name=name, subtask="route", warm_start=warm_start)


def test_a_failed_job_does_not_end_the_others() -> None:
    def runner(job: AdapterPlan, _: Launch, __: OnProgress) -> JobResult:
        return JobResult(name=job.name, status="failed" if job.name == "a" else "trained")

    results = _run([plan("a"), plan("b"), plan("c", "a"), plan("d", "b")], runner, workers=2)
    assert {name: r.status for name, r in results.items()} == {
        "a": "failed",
        "b": "trained",
        "c": "not started",
        "d": "trained",
    }
    assert "starts from 'a', which failed" in results["c"].message


def test_a_warm_start_waits_for_its_origin_and_others_pass_it() -> None:
    started: list[str] = []
    passed = threading.Event()

    def runner(job: AdapterPlan, _: Launch, __: OnProgress) -> JobResult:
        started.append(job.name)
        if job.name == "origin":
            assert passed.wait(10)
        elif job.name == "other":
            passed.set()
        return JobResult(name=job.name, status="trained")

    _run([plan("origin"), plan("warm", "origin"), plan("other")], runner, workers=2)
    assert started == ["origin", "other", "warm"]


def test_every_running_job_has_a_gpu_of_its_own() -> None:
    busy, most, lock = set[str](), list[int](), threading.Lock()
    together = threading.Barrier(2, timeout=10)

    def runner(job: AdapterPlan, launch: Launch, _: OnProgress) -> JobResult:
        (gpu,) = launch.gpus
        with lock:
            assert gpu not in busy
            busy.add(gpu)
            most.append(len(busy))
        together.wait()
        with lock:
            busy.remove(gpu)
        together.wait()
        return JobResult(name=job.name, status="trained")

    plans = [plan(name) for name in "abcd"]
    launch = replace(LAUNCH, gpus=("0", "3"))
    nothing = {"on_progress": lambda *_: None, "on_result": lambda _: None}
    results = run_plan(plans, launch, workers=9, runner=runner, **nothing)
    assert all(r.status == "trained" for r in results)
    assert max(most) == 2


def test_a_warm_start_from_an_earlier_run_does_not_wait() -> None:
    def runner(job: AdapterPlan, _: Launch, __: OnProgress) -> JobResult:
        return JobResult(name=job.name, status="trained")

    assert _run([plan("warm", "trained before")], runner, workers=1)["warm"].status == "trained"


def test_a_run_that_is_broken_off_takes_no_job_up_again() -> None:
    attempts, ends, told = list[bool](), list[bool](), threading.Event()

    def attempt(_: AdapterPlan, launch: Launch, __: OnProgress) -> str:
        attempts.append(launch.resume)
        ends.append(launch.broken_off is not None and launch.broken_off.wait(10))
        return "its process ended with -2"

    def runner(job: AdapterPlan, launch: Launch, on_progress: OnProgress) -> JobResult:
        if job.name == "quick":
            return JobResult(name=job.name, status="trained")
        return retried(attempt, job, launch, on_progress)

    def interrupt(_: JobResult) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan(
            [plan("quick"), plan("long")],
            replace(LAUNCH, retries=3),
            workers=2,
            on_progress=lambda *_: None,
            on_result=interrupt,
            runner=runner,
            on_interrupt=told.set,
        )
    assert attempts == [False]
    assert ends == [True]
    assert told.is_set()


def test_a_worker_of_a_run_that_is_broken_off_ends(workspace: Path, tmp_path: Path) -> None:
    ended = threading.Event()
    launch = Launch(
        recipe=workspace / "recipe.toml",
        out=tmp_path,
        threads=1,
        resume=False,
        retries=1,
        broken_off=ended,
    )
    steps: list[int] = []

    def on_progress(_: str, event: dict[str, object]) -> None:
        steps.append(0)
        ended.set()

    done = run_in_process(AdapterPlan(name="route", subtask="route"), launch, on_progress)
    assert (done.status, done.message) == ("failed", "the run was broken off")
    assert len(steps) == 1


def test_a_worker_trains_in_its_own_process_and_reports(workspace: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    launch = Launch(recipe=workspace / "recipe.toml", out=tmp_path, threads=1, resume=False)
    job = AdapterPlan(name="route", subtask="route")
    done = run_in_process(job, launch, lambda _, event: steps.append(event["step"]))
    assert done.status == "trained", done.message
    assert steps == sorted(steps)
    assert (tmp_path / "route" / "adapter_model.safetensors").is_file()


def test_a_worker_tells_how_many_examples_were_too_long(
    workspace: Path, corpus: Corpus, codec: Codec, tmp_path: Path
) -> None:
    text = (workspace / "recipe.toml").read_text(encoding="utf-8")
    for name in ("base", "data"):
        text = text.replace(f'"{name}"', f'"{(workspace / name).as_posix()}"')
    text = text.replace("epochs = 3", "epochs = 1")
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    plan = AdapterPlan(name="args.files", subtask="arguments", tool_set="files")
    train = make_task(read_recipe(path), plan, corpus, codec).train
    limit = sorted(example.width for example in train)[len(train) // 2]
    path.write_text(f"{text}\n[examples]\nmax_row_tokens = {limit}\n", encoding="utf-8")
    launch = Launch(recipe=path, out=tmp_path / "out", threads=1, resume=False)
    done = run_in_process(plan, launch, lambda *_: None)
    long = sum(example.width > limit for example in train)
    assert long
    told = f"{long} of {len(train)} examples are over max_row_tokens and were left out"
    assert (done.status, done.message) == ("trained", told)
    assert run_in_process(plan, launch, lambda *_: None).message == ""  # it is there already


def test_a_worker_tells_why_it_failed(workspace: Path, tmp_path: Path) -> None:
    launch = Launch(recipe=workspace / "recipe.toml", out=tmp_path, threads=1, resume=False)
    done = run_in_process(AdapterPlan(name="nix", subtask="route"), launch, lambda *_: None)
    assert done.status == "failed"
    assert "has no adapter 'nix'; it has route, select.files, args.files" in done.message


def _run(plans: list[AdapterPlan], runner: object, *, workers: int) -> dict[str, JobResult]:
    assert callable(runner)
    seen: list[JobResult] = []
    results = run_plan(
        plans,
        LAUNCH,
        workers=workers,
        on_progress=lambda *_: None,
        on_result=seen.append,
        runner=runner,
    )
    assert [r.name for r in results] == [p.name for p in plans]
    assert {r.name for r in seen} == {p.name for p in plans}
    return {r.name: r for r in results}

"""The same adapters, wherever the jobs run: here, under a launcher, on a Ray cluster."""

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import HashStore
from train.tiny import RECIPE

from afx_train.errors import ClusterUnavailable
from afx_train.job import run_job
from afx_train.jobs import JobResult, Launch, OnProgress
from afx_train.places import workplace
from afx_train.ranks import Ranks
from afx_train.recipe import AdapterPlan, read_recipe
from agentflux.contracts.cards import CARD
from agentflux.errors import MissingExtra

NAMES = ("route", "args.files")
GONE = "select.gone"
LAUNCH = Launch(recipe=Path("r"), out=Path("o"), threads=1, resume=False)
ENDED = {"route": "trained", GONE: "failed", "args.files": "trained"}


@pytest.fixture(scope="module")
def recipe_path(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The workspace's recipe with two of its adapters and one that no data exists for."""
    text = RECIPE.replace('"base"', f'"{workspace}/base"').replace('"data"', f'"{workspace}/data"')
    text = text.replace('name = "select.files"', f'name = "{GONE}"', 1)
    text = text.replace('tool_set = "files"', 'tool_set = "gone"', 1).replace("= 3", "= 2")
    path = tmp_path_factory.mktemp("places") / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained_here(recipe_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two adapters as this process trains them."""
    out = tmp_path_factory.mktemp("here")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for name in NAMES:
            run_job(recipe_path, name, out, resume=False, report=lambda _: None)
    return out


def test_processes_of_accelerate_launch_share_the_jobs(
    recipe_path: Path, trained_here: Path, tmp_path: Path
) -> None:
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launcher += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launcher += ["--main_process_port", "0", "--module", "afx_train.cli", "run", str(recipe_path)]
    launcher += [part for name in NAMES for part in ("--only", name)]
    done = _python("-m", *launcher, "--out", str(tmp_path), "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert _rows(done.stdout) == dict.fromkeys(NAMES, "trained")
    assert "process 1 of 2" in done.stderr
    assert "process 2 of 2" in done.stderr
    _same_adapters(trained_here, tmp_path)


def test_every_job_runs_once_and_every_process_learns_how_it_ended() -> None:
    origin = AdapterPlan(name="origin", subtask="route")
    plans = [
        origin,
        *(origin.model_copy(update={"name": name}) for name in "abcd"),
        origin.model_copy(update={"name": "warm", "warm_start": "origin"}),
        origin.model_copy(update={"name": "lost", "warm_start": "a"}),
    ]
    store, ran, together = HashStore(), list[str](), threading.Barrier(2, timeout=10)
    at_work = set[int]()

    def runner(plan: AdapterPlan, _: Launch, __: OnProgress) -> JobResult:
        if threading.get_ident() not in at_work:
            at_work.add(threading.get_ident())
            together.wait()  # so that both have a part
        ran.append(plan.name)
        return JobResult(name=plan.name, status="failed" if plan.name == "a" else "trained")

    def one(rank: int) -> list[JobResult]:
        ranks, seen = Ranks(store=store, rank=rank, count=2), list[JobResult]()
        quiet = {"on_progress": lambda *_: None, "on_result": seen.append}
        results = ranks.run(plans, LAUNCH, runner=runner, **quiet)
        ranks.leave()
        assert [result for result in results if result in seen] != []
        return results

    with ThreadPoolExecutor(max_workers=2) as pool:
        first, second = pool.map(one, range(2))
    assert first == second
    assert sorted(ran) == ["a", "b", "c", "d", "origin", "warm"]
    assert ran.index("origin") < ran.index("warm")
    ended = {result.name: result.status for result in first}
    assert (ended["a"], ended["lost"], ended["warm"]) == ("failed", "not started", "trained")


def test_an_unknown_place_names_the_known_ones() -> None:
    done = _afx_train("run", "recipe.toml", "--on", "moon")
    assert done.returncode == 4
    assert "no place 'moon' to run on; there are here, ray" in done.stderr


def test_a_cluster_that_does_not_answer_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _ray()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with (
        pytest.raises(ClusterUnavailable, match=r"at '127.0.0.1:1'; start one with `ray start"),
        workplace("ray", tmp_path, 0, 0, 1),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="train-ray"), workplace("ray", tmp_path, 0, 0, 1):
        pass


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Any]:
    """A Ray cluster of two nodes with a core each, on this machine."""
    _ray()
    from ray.cluster_utils import Cluster

    os.environ["RAY_worker_niceness"] = "0"  # at Ray's 15 a loaded machine starves the jobs
    one = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=one)
    cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()
    del os.environ["RAY_worker_niceness"]


@pytest.mark.filterwarnings("ignore")
def test_the_nodes_of_a_ray_cluster_train_the_same_adapters(
    two_nodes: Any, recipe_path: Path, trained_here: Path, tmp_path: Path
) -> None:
    """Both nodes work; the job that fails is reported and the others go on."""
    plans = read_recipe(recipe_path).adapters
    launch = Launch(recipe=recipe_path, out=tmp_path, threads=1, resume=False, retries=1)
    steps = dict[str, list[int]]()

    def on_progress(name: str, event: dict[str, Any]) -> None:
        steps.setdefault(name, []).append(event["step"])

    os.environ["RAY_ADDRESS"] = two_nodes.address
    try:
        with pytest.raises(ClusterUnavailable, match="the largest node has 1 CPUs"):
            with workplace("ray", tmp_path, 0, 2, len(plans)):
                pass
        with workplace("ray", tmp_path, 0, 1, len(plans)) as place:
            assert str(place) == "2 at a time, 1 thread each, on Ray, 2 nodes"
            results = place.run(plans, launch, on_progress=on_progress, on_result=lambda _: None)
    finally:
        del os.environ["RAY_ADDRESS"]
    assert {r.name: r.status for r in results} == ENDED
    assert "tool set 'gone' is not in the data" in results[1].message
    assert len({result.place for result in results}) == 2
    assert all(steps[name] == sorted(steps[name]) for name in NAMES)
    _same_adapters(trained_here, tmp_path)


@pytest.mark.filterwarnings("ignore")
def test_a_job_whose_node_is_lost_goes_on_at_another(
    two_nodes: Any, recipe_path: Path, trained_here: Path, tmp_path: Path
) -> None:
    plans = [plan for plan in read_recipe(recipe_path).adapters if plan.name in NAMES]
    launch = Launch(recipe=recipe_path, out=tmp_path, threads=1, resume=True, retries=1)
    lost = list[str]()

    def on_progress(name: str, event: dict[str, Any]) -> None:
        for node in (*two_nodes.worker_nodes,):
            if not lost and node.node_id.startswith(event["place"]):
                lost.append(name)
                two_nodes.remove_node(node, allow_graceful=False)

    os.environ["RAY_ADDRESS"] = two_nodes.address
    try:
        with workplace("ray", tmp_path, 0, 1, len(plans)) as place:
            results = place.run(plans, launch, on_progress=on_progress, on_result=lambda _: None)
    finally:
        del os.environ["RAY_ADDRESS"]
    assert lost, "no job ran on the node that can be lost"
    # Where the lost node's worker has finished after all, there is nothing left to take up.
    assert {r.name for r in results if r.status in ("trained", "skipped")} == {*NAMES}
    assert len({result.place for result in results}) == 1
    _same_adapters(trained_here, tmp_path)


def _same_adapters(left: Path, right: Path) -> None:
    """The same files with the same bytes, but for how fast they were made."""
    assert sorted(p.name for p in right.iterdir()) == sorted(p.name for p in left.iterdir())
    for name in NAMES:
        files = sorted(p.name for p in (left / name).iterdir())
        assert files == sorted(p.name for p in (right / name).iterdir())
        for file in set(files) - {CARD}:
            assert (left / name / file).read_bytes() == (right / name / file).read_bytes(), file
        cards = [json.loads((folder / name / CARD).read_text()) for folder in (left, right)]
        for card in cards:
            del card["training"]["examples_per_s"], card["training"]["peak_gib"]
        assert cards[0] == cards[1]


def _ray() -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install '.[train-ray]'")


def _rows(table: str) -> dict[str, str]:
    return {row.split("\t")[0]: row.split("\t")[1] for row in table.splitlines()}


def _afx_train(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return _python("-m", "afx_train.cli", *arguments)


def _python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    env = os.environ | {"PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=env
    )

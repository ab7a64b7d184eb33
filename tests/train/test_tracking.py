"""What TensorBoard and MLflow are told, read back with their own readers."""

import sys
from pathlib import Path
from typing import Any

import pytest

from afx_train.errors import RecipeError, TrackingFailed
from afx_train.jobs import JobResult
from afx_train.tracking import tracking
from agentflux.errors import MissingExtra

JOBS = ("route", "select.files")
DONE = {"route": "trained", "select.files": "failed"}


def test_tensorboard_gets_a_run_an_adapter(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    _track(f"tensorboard:{tmp_path / 'logs'}")
    for name in JOBS:
        run = EventAccumulator(str(tmp_path / "logs" / name))
        run.Reload()
        assert sorted(run.Tags()["tensors"]) == ["dev_accuracy", "examples_per_s", "loss"]
        curve = {e.step: float(make_ndarray(e.tensor_proto)) for e in run.Tensors("loss")}
        assert curve == {1: 2.0, 2: 1.0, 3: 0.5}
        (dev,) = run.Tensors("dev_accuracy")
        assert dev.step == 3
        assert float(make_ndarray(dev.tensor_proto)) == 0.75


@pytest.mark.filterwarnings("ignore")
def test_mlflow_gets_a_run_an_adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install '.[mlflow]'")
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = f"file://{tmp_path / 'runs'}"
    _track(f"mlflow:{uri}")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("desk/recipe")
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert sorted(found) == sorted(JOBS)
    assert found["route"].info.status == "FINISHED"
    assert found["select.files"].info.status == "FAILED"
    history = client.get_metric_history(found["route"].info.run_id, "loss")
    assert {m.step: m.value for m in history} == {1: 2.0, 2: 1.0, 3: 0.5}
    assert found["route"].data.metrics["final_dev_accuracy"] == 0.75


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow"])
def test_a_missing_package_names_its_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (kind, "tensorboard.summary", "mlflow.entities"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as raised:
        _track(f"{kind}:nowhere")
    assert raised.value.extra == kind


@pytest.mark.parametrize("target", ["wandb:x", "tensorboard", "mlflow:"])
def test_an_unknown_target_names_the_known_ones(target: str) -> None:
    with pytest.raises(RecipeError, match="neither tensorboard:FOLDER nor mlflow:TRACKING_URI"):
        _track(target)


def test_a_folder_that_cannot_be_made_is_told_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TrackingFailed, match="cannot log to"):
        _track(f"tensorboard:{tmp_path / 'file' / 'logs'}")


def test_training_outlives_a_place_that_stops_taking_records(tmp_path: Path) -> None:
    said: list[str] = []
    logs = tmp_path / "logs"
    with tracking(f"tensorboard:{logs}", run="r", warn=said.append) as tracker:
        logs.rmdir()
        logs.write_text("in the way")
        for step in (1, 2):
            tracker.progress("route", _event(step))
        tracker.result(JobResult(name="route", status="trained"))
    (message,) = said
    assert message.startswith(f"cannot log to {logs}")
    assert message.endswith("training goes on without it")


def _track(target: str) -> None:
    with tracking(target, run="desk/recipe", warn=pytest.fail) as tracker:
        for step in (1, 2, 3):
            for name in JOBS:
                tracker.progress(name, _event(step))
        for name in JOBS:
            scores = {"dev_accuracy": 0.75}
            tracker.result(JobResult(name=name, status=DONE[name], scores=scores))  # type: ignore[arg-type]


def _event(step: int) -> dict[str, Any]:
    """As a worker reports: the third step ends the epoch."""
    return {
        "epoch": 1,
        "epochs": 1,
        "step": step,
        "steps": 3,
        "loss": 1.0,
        "step_loss": 2.0 / 2 ** (step - 1),
        "examples_per_s": 4.0,
        "dev": 0.75 if step == 3 else None,
    }

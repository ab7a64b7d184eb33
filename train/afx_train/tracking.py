"""Follow a run in TensorBoard or MLflow: one run an adapter, with its losses and dev accuracy.

Neither is needed to train. The process that starts the jobs writes; workers know nothing of it.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from afx_train.errors import RecipeError, TrackingFailed
from afx_train.jobs import JobResult
from agentflux.errors import MissingExtra

# Progress events carry more; these are what is drawn. dev only stands at the end of an epoch.
_DRAWN = {"step_loss": "loss", "examples_per_s": "examples_per_s", "dev": "dev_accuracy"}
_SEND_S = 5.0  # between two requests to a tracking server about one job
_MLFLOW = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # its seven would hold a job up for minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
}


class Tracker(Protocol):
    """Writes what the jobs of a run report."""

    def progress(self, name: str, event: dict[str, Any]) -> None:
        """A job is further, see `loop.Progress`."""
        ...

    def result(self, result: JobResult) -> None:
        """A job has ended."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


@contextmanager
def tracking(target: str, *, run: str, warn: Callable[[str], object]) -> Iterator[Tracker]:
    """Open `tensorboard:FOLDER` or `mlflow:TRACKING_URI`; an empty target writes nowhere.

    run: what MLflow calls the experiment. warn: is told once if records are refused later on;
    training goes on without them.

    Raises:
        RecipeError: neither of the two. MissingExtra: the package is not installed.
        TrackingFailed: the place cannot be written to.
    """
    tracker = _Forgiving(_open(target, run), warn)
    try:
        yield tracker
    finally:
        tracker.close()


def _open(target: str, run: str) -> Tracker:
    kind, _, place = target.partition(":")
    if not target:
        return _Nowhere()
    if kind == "tensorboard" and place:
        return _TensorBoard(Path(place))
    if kind == "mlflow" and place:
        return _MlFlow(place, run)
    raise RecipeError(f"--log-to {target!r} is neither tensorboard:FOLDER nor mlflow:TRACKING_URI")


def _drawn(event: dict[str, Any]) -> dict[str, float]:
    return {name: event[key] for key, name in _DRAWN.items() if event.get(key) is not None}


class _Forgiving:
    """Stops writing after a failure: an hour of training is not given up for its picture."""

    def __init__(self, tracker: Tracker, warn: Callable[[str], object]) -> None:
        self._tracker, self._warn, self._works = tracker, warn, True

    def progress(self, name: str, event: dict[str, Any]) -> None:
        self._try(lambda: self._tracker.progress(name, event))

    def result(self, result: JobResult) -> None:
        self._try(lambda: self._tracker.result(result))

    def close(self) -> None:
        self._try(self._tracker.close)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            if self._works:
                write()
        except TrackingFailed as error:
            self._works = False
            self._warn(f"{error}; training goes on without it")


class _Nowhere:
    def progress(self, name: str, event: dict[str, Any]) -> None:
        """Drop it."""

    def result(self, result: JobResult) -> None:
        """Drop it."""

    def close(self) -> None:
        """Nothing is open."""


class _TensorBoard:
    """A folder of event files an adapter."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._writers = folder, dict[str, Any]()
        try:
            self._writer: Any = import_module("tensorboard.summary").Writer
        except ImportError as error:
            raise MissingExtra("tensorboard", extra="tensorboard") from error
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrackingFailed(str(folder), error.strerror or str(error)) from error

    def progress(self, name: str, event: dict[str, Any]) -> None:
        try:
            if name not in self._writers:
                self._writers[name] = self._writer(str(self._folder / name))
            for key, value in _drawn(event).items():
                self._writers[name].add_scalar(key, value, event["step"])
        except OSError as error:
            raise TrackingFailed(str(self._folder), error.strerror or str(error)) from error

    def result(self, result: JobResult) -> None:
        if (writer := self._writers.pop(result.name, None)) is not None:
            writer.close()

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class _MlFlow:
    """A run an adapter, in one experiment."""

    def __init__(self, uri: str, experiment: str) -> None:
        for name, value in _MLFLOW.items():
            os.environ.setdefault(name, value)
        try:
            self._mlflow: Any = import_module("mlflow")
            self._metric: Any = import_module("mlflow.entities").Metric
        except ImportError as error:
            raise MissingExtra("mlflow", extra="mlflow") from error
        self._uri, self._runs, self._waiting = uri, dict[str, str](), dict[str, list[Any]]()
        self._sent = dict[str, float]()
        with self._translated():
            self._client: Any = self._mlflow.MlflowClient(tracking_uri=uri)
            known = self._client.get_experiment_by_name(experiment)
            made = known.experiment_id if known else self._client.create_experiment(experiment)
            self._experiment: str = made

    def progress(self, name: str, event: dict[str, Any]) -> None:
        now = int(time.time() * 1000)
        self._waiting.setdefault(name, []).extend(
            self._metric(key, value, now, event["step"]) for key, value in _drawn(event).items()
        )
        if time.monotonic() - self._sent.get(name, 0.0) > _SEND_S:
            self._send(name)
            self._sent[name] = time.monotonic()

    def result(self, result: JobResult) -> None:
        self._send(result.name)
        if (run := self._runs.pop(result.name, None)) is None:
            return
        with self._translated():
            for key, value in result.scores.items():
                self._client.log_metric(run, f"final_{key}", value)
            done = result.status in ("trained", "skipped")
            self._client.set_terminated(run, "FINISHED" if done else "FAILED")

    def close(self) -> None:
        for run in self._runs.values():
            with self._translated():
                self._client.set_terminated(run, "KILLED")

    def _send(self, name: str) -> None:
        metrics = self._waiting.pop(name, [])
        if not metrics:
            return
        with self._translated():
            if name not in self._runs:
                made = self._client.create_run(self._experiment, run_name=name)
                self._runs[name] = made.info.run_id
            for at in range(0, len(metrics), 1000):  # MLflow's own limit a request
                self._client.log_batch(self._runs[name], metrics=metrics[at : at + 1000])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._mlflow.MlflowException as error:
            raise TrackingFailed(self._uri, str(error).splitlines()[0]) from error

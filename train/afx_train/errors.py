"""Errors of training, under the SDK's tree."""

from agentflux.errors import AgentFluxError, ConfigError


class RecipeError(ConfigError):
    """A recipe is wrong; `where` names the file and the key."""


class DataError(ConfigError):
    """Training data is wrong; `where` names the file and the line."""


class TrainingDiverged(AgentFluxError):
    """The loss or its gradient stopped being a number."""

    def __init__(self, adapter: str, *, step: int) -> None:
        self.adapter, self.step = adapter, step
        super().__init__(
            f"adapter {adapter!r}: the loss is not a number at step {step}; "
            "lower training.learning_rate in the recipe"
        )


class TeacherFailed(AgentFluxError):
    """The endpoint of a teacher refused, failed too often or answered nonsense."""

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(f"teacher {url}: {reason}")


class JobFailed(AgentFluxError):
    """Some adapters of a plan were not trained; the others were."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        super().__init__(f"not trained: {', '.join(names)}; the reason stands above")


class TrackingFailed(AgentFluxError):
    """TensorBoard's folder or MLflow's server does not take the run's records."""

    def __init__(self, place: str, reason: str) -> None:
        self.place, self.reason = place, reason
        super().__init__(f"cannot log to {place}: {reason}")


class ClusterUnavailable(ConfigError):
    """There is no Ray cluster to run jobs on."""

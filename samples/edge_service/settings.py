"""The service's settings: command line over environment over file over the defaults below."""

import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from agentflux import errors

ENV_PREFIX = "AFX_SERVE_"


def default_data() -> Path:
    """Return the folder for keys, runs and journals: per user, outside of any cache."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "agentflux" / "service"
    root = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(root) / "agentflux" / "service"


class Settings(BaseSettings):
    """One field, one TOML key, one variable `AFX_SERVE_<FIELD>`."""

    # An empty variable is one that a unit or a container leaves open: the default is safer.
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    bundle: Path = Field(description="folder written by `afx-export build`")
    trust: Path | None = Field(
        default=None,
        description="public key (PEM): only a bundle signed with its private half is opened",
    )
    mcp: Path | None = Field(default=None, description="mcpServers JSON of the service's tools")
    context: str = Field(default="", description="text shown to the model before every run")
    # An empty address would be every address of the machine.
    host: str = Field(default="127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(default=8765, ge=0, le=65535, description="port; 0 takes a free one")
    data: Path = Field(default_factory=default_data, description="keys, runs and journals")
    allowed_hosts: tuple[str, ...] = Field(
        default=(), description="names in the Host header beside loopback and `host`"
    )
    allowed_origins: tuple[str, ...] = Field(
        default=(), description="other sites whose pages may call the API, never `*`"
    )
    approve: Literal["ask", "read_only", "all"] = Field(
        default="ask",
        description="ask: tools that only read run unasked, a person decides on the rest; "
        "read_only: the rest is refused; all: nothing is asked",
    )
    policy: Path | None = Field(
        default=None, description="TOML rules that allow, deny or ask, before `approve`"
    )
    isolation: Literal["none", "process"] = Field(
        default="process",
        description="process: the model computes in a process of its own, so a native crash costs "
        "one request, and others are heard while a long prompt is read; none: less memory",
    )
    threads: int | None = Field(default=None, ge=1, description="of the model")
    concurrency: int = Field(default=2, ge=1, description="requests that compute or call tools")
    queue: int = Field(default=16, ge=0, description="requests that may wait; more get 429")
    open_runs: int = Field(default=64, ge=1, description="runs that may wait for an approval")
    requests_per_minute: int = Field(default=240, ge=1, description="for each key")
    header_seconds: float = Field(
        default=10.0, gt=0, description="time for a request's first line and headers to arrive"
    )
    body_bytes: int = Field(default=1_000_000, ge=1024, description="largest request body")
    body_seconds: float = Field(default=10.0, gt=0, description="time for a body to arrive")
    request_seconds: float = Field(default=120.0, gt=0, description="time for one completion")
    approval_seconds: float = Field(default=900.0, gt=0, description="then the answer is no")
    drain_seconds: float = Field(default=15.0, ge=0, description="for open work at a stop")
    keep_days: float = Field(
        default=30.0, gt=0, description="ended runs are deleted with their events after that"
    )
    keep_runs: int = Field(
        default=1000, ge=1, description="ended runs kept for each tenant; older ones are deleted"
    )
    max_tokens: int = Field(default=256, ge=1, description="of a completion that sets no limit")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Put the TOML file under the environment."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(config: Path | None, **given: Any) -> Settings:  # noqa: ANN401 - field values
    """Read the settings. given: what the command line says; None is left out.

    Raises:
        ConfigError: names the file or variable and the key.
    """

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    if config is not None and not config.is_file():
        raise errors.ConfigError("cannot be read: there is no such file", where=str(config))
    try:
        return FromFile(**{key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        where = f"{config or 'settings'}: {key}"
        hint = f" (also read from {ENV_PREFIX}{key.split('.')[0].upper()})"
        raise errors.ConfigError(first["msg"] + hint, where=where) from None
    except SettingsError as error:
        told = f'{error}; a list is written as JSON, such as ["gateway.local"]'
        raise errors.ConfigError(told, where=f"{ENV_PREFIX}… in the environment") from error
    except ValueError as error:
        raise errors.ConfigError(f"is not valid TOML: {error}", where=str(config)) from error


def data_folder(given: Path | None, *, config: Path | None) -> Path:
    """Return the folder that a command about keys works on: the one that the service would take.

    Raises:
        ConfigError: as load_settings.
    """
    return load_settings(config, bundle=Path(), data=given).data  # no bundle is opened

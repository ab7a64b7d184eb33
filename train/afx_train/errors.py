"""Errors of training, under the SDK's tree."""

from agentflux.errors import ConfigError


class RecipeError(ConfigError):
    """A recipe is wrong; `where` names the file and the key."""


class DataError(ConfigError):
    """Training data is wrong; `where` names the file and the line."""

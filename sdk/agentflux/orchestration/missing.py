"""Notice that the request does not hold a value that a tool needs, and ask instead of inventing it.

Where training only ever copied a parameter from the texts at hand, decoding is held to their spans.
If the value is not there, the model's own probability lies elsewhere and the grammar leaves it
almost nothing: its *support* is small. The threshold is calibrated on development data and is a
part of the adapter that writes the arguments (`calibration.min_support`; 0 never asks).
"""

import re
from collections.abc import Collection, Mapping

from agentflux.contracts.tools import ToolSpec
from agentflux.ports import Completion

_KEY = re.compile(r'"((?:[^"\\]|\\.)*)":')


def missing_parameter(
    done: Completion, tool: ToolSpec, copied: Collection[str], *, min_support: float
) -> str | None:
    """Return the required, copied parameter at which the support fell below the threshold."""
    if done.support >= min_support:
        return None
    keys = _KEY.findall(done.text[: done.support_at])
    required = tool.input_schema.get("required") or ()
    key = keys[-1] if keys else None
    return key if key in required and key in copied else None


def question(tool: ToolSpec, parameter: str) -> str:
    """Word the question with what the tool says about the parameter."""
    properties = tool.input_schema.get("properties")
    schema = properties.get(parameter) if isinstance(properties, Mapping) else None
    about = schema.get("description") if isinstance(schema, Mapping) else None
    told = f" ({' '.join(str(about).split())[:200]})" if about else ""
    return f"To use {tool.name} I need to know: {parameter.replace('_', ' ')}{told}?"

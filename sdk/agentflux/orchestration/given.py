"""Optional parameters that a request surely gives, or surely does not, by its words alone.

A small model that writes `{"path": ...` ends the object there more often than it should: a dry run
or the branch to start from is left out. A linear classifier (`agentflux.contracts.intents`) tells
of most optional parameters whether a request gives them; where it is sure and the arguments say
otherwise, they are written once more under a schema that says so.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentflux.contracts.intents import surely_given
from agentflux.contracts.tools import ToolSpec


def as_given(tool: ToolSpec, arguments: Mapping[str, Any], odds: Mapping[str, float]) -> ToolSpec:
    """Return the tool whose schema demands what is surely given and lacks what surely is not.

    The same object where the arguments are as the odds would have them. odds: of each optional
    parameter, the log-odds that it is given.
    """
    schema = tool.input_schema
    properties, required = schema.get("properties") or {}, list(schema.get("required") or ())
    optional = {n: found for n, found in odds.items() if n in properties and n not in required}
    lacking = [n for n, found in optional.items() if surely_given(found) and n not in arguments]
    extra = {n for n, o in optional.items() if surely_given(o) is False and n in arguments}
    if not lacking and not extra:
        return tool
    kept = {name: inner for name, inner in properties.items() if name not in extra}
    changed = {**schema, "properties": kept, "required": [*required, *lacking]}
    return replace(tool, input_schema=changed)

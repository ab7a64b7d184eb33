"""What a request's words alone say of a call's parameters.

A small model that writes `{"path": ...` ends the object there more often than it should: a dry run
or the branch to start from is left out. A linear classifier (`agentflux.contracts.intents`) tells
of most optional parameters whether a request gives them; where it is sure and the arguments say
otherwise, they are written once more under a schema that says so.

Of a tool that nobody trained for, a request that names one of a parameter's listed values alone
("as a RIS file") nearly always means it: of 1,557 such values in requests for the servers of
`samples/general` 1,496 are what is called for, and in 44 calls the parameter is left out
(`tests/bench/unknown_tools.py`).
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from agentflux.contracts.intents import NOT_GIVEN, surely_given
from agentflux.contracts.tools import ToolSpec


def as_given(
    tool: ToolSpec,
    arguments: Mapping[str, Any],
    odds: Mapping[str, float],
    named: Mapping[str, str] = MappingProxyType({}),
) -> ToolSpec:
    """Return the tool whose schema demands what is surely given and lacks what surely is not.

    The same object where the arguments are as the odds would have them. odds: of each optional
    parameter, the log-odds that it is given. named: listed values that the request names; the
    schema has no other where the arguments have, or lack a parameter that is likelier given.
    """
    schema = tool.input_schema
    properties, required = schema.get("properties") or {}, list(schema.get("required") or ())
    optional = {n: found for n, found in odds.items() if n in properties and n not in required}
    lacking = [n for n, found in optional.items() if surely_given(found) and n not in arguments]
    extra = {n for n, o in optional.items() if surely_given(o) is False and n in arguments}
    wrong = [n for n, v in named.items() if n not in extra and arguments.get(n, v) != v]
    missing = [n for n in named if n not in arguments and odds.get(n, NOT_GIVEN) > 0]
    if not lacking and not extra and not wrong and not missing:
        return tool
    kept = {name: inner for name, inner in properties.items() if name not in extra}
    kept |= {n: {"type": "string", "enum": [named[n]]} for n in (*wrong, *missing)}
    demanded = dict.fromkeys([*required, *lacking, *missing])
    changed = {**schema, "properties": kept, "required": [*demanded]}
    return replace(tool, input_schema=changed)

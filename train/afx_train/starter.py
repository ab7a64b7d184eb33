"""`afx-train init`: a commented recipe for the tool sets that an MCP configuration connects."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast, get_args

from afx_train.errors import RecipeError
from agentflux.contracts.tools import ToolSpec
from agentflux.hosts.mcp import McpHost

Size = Literal["small", "7b"]
Granularity = Literal["per_tool_set", "per_tool", "shared", "shared+delta"]
Catalog = Mapping[str, Sequence[ToolSpec]]

_LORA: dict[Size, str] = {
    "small": """[lora]
# For 0.1 to 1 billion parameters. The layers below first_layer stay the base's and run once a row,
# so many epochs are cheap; 20 suits a model of 30 layers (take about two thirds of yours).
rank = 12
alpha = 24.0
first_layer = 20
target_modules = [
  "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
]

[training]
learning_rate = 1.5e-3
epochs = 4                     # the epoch that is best on the dev split is kept
batch_tokens = 500             # trained tokens a batch; the shared prefix is free
patience = 2                   # stop after two epochs that were no better
easy_loss = 0.04               # rows learned this well rest in most later epochs
recall_gib = 2.0               # memory for what the base and the lower layers computed
""",
    "7b": """[lora]
# For about 7 billion parameters (arXiv:2510.00229, section 4): every linear layer, rank-stabilized.
rank = 32
alpha = 64.0
rslora = true
target_modules = [
  "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
]

[training]
learning_rate = 1e-4
epochs = 4                     # the epoch that is best on the dev split is kept
batch_tokens = 4096
accumulate = 2
patience = 1
precision = "auto"             # bf16 where the device multiplies it
recall_gib = 8.0
""",
}


def ask(configuration: Path) -> dict[str, tuple[ToolSpec, ...]]:
    """Start every server of an `mcpServers` file and return its tools by tool set.

    Raises:
        ConfigError: the file is wrong. ToolHostError: a server does not start.
        MissingExtra: there is no `mcp`.
    """
    catalog: dict[str, list[ToolSpec]] = {}
    with McpHost.from_config(configuration) as host:
        for tool in host.list_tools():
            catalog.setdefault(tool.tool_set, []).append(tool)
    if not catalog:
        raise RecipeError("connects no server that has tools", where=str(configuration))
    return {name: tuple(tools) for name, tools in catalog.items()}


def write_starter(  # noqa: PLR0913 - the command's options
    path: Path,
    catalog: Catalog,
    *,
    model: str,
    size: str,
    granularity: str,
    force: bool = False,
) -> list[str]:
    """Write the recipe and, beside it, `data/tools/<tool_set>.json`. Returns what to do next.

    Raises:
        RecipeError: unknown size or granularity, or the recipe exists and `force` is off.
    """
    for value, known in ((size, Size), (granularity, Granularity)):
        if value not in get_args(known):
            raise RecipeError(f"{value!r} is none of {', '.join(get_args(known))}")
    if path.exists() and not force:
        raise RecipeError("exists already; choose another --out or add --force", where=str(path))
    tools = path.parent / "data" / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    for name, listed in catalog.items():
        _write(tools / f"{name}.json", json.dumps([t.wire for t in listed], indent=2) + "\n")
    text = recipe_text(
        catalog, model=model, size=cast("Size", size), granularity=cast("Granularity", granularity)
    )
    _write(path, text)
    return [
        f"{path}: {len(catalog)} tool sets, {sum(map(len, catalog.values()))} tools",
        f"next: afx-export fetch {model}",
        f"      afx-train data build --out {path.parent / 'data'} …   (or data import, data teach)",
        f"      afx-train run {path} --out adapters",
    ]


def recipe_text(catalog: Catalog, *, model: str, size: Size, granularity: Granularity) -> str:
    """The recipe as TOML."""
    sets = "\n".join(f"#   {name}: {', '.join(t.name for t in ts)}" for name, ts in catalog.items())
    plans = [_select(name, len(tools)) for name, tools in catalog.items()]
    plans += _arguments(catalog, granularity)
    if len(catalog) > 1:
        plans.insert(0, _ROUTE)
    return f"""# Adapters for these tool sets:
{sets}
# Every key is described in docs/training.md.

base_model = {json.dumps(model)}
data = ["data"]                # folders with tools/ and *.jsonl
seed = 7
# From where adapters act. "request": from the user's request on. "instruction": only on the stage's
# last line; select and arguments share all KV cache, but learn far less.
boundary = "request"

{_LORA[size]}
[examples]
catalog_variants = 1           # 6: also other orders of the tools, for catalogs that change
select_none = 0.15             # requests that a tool set cannot serve
gold_removed = 0.0             # with variants: the right tool is taken away, `none` becomes right
masked_variants = 0            # 2 or 4: also learn from nameless tools, for tools yet unknown

{"".join(plans)}"""


_ROUTE = """[[adapters]]
name = "route"
subtask = "route"

"""


def _select(tool_set: str, tools: int) -> str:
    return _plan(f"select.{tool_set}", "select", tool_set, comment=f"{tools} tools")


def _arguments(catalog: Catalog, granularity: Granularity) -> list[str]:
    if granularity == "per_tool_set":
        return [_plan(f"args.{name}", "arguments", name) for name in catalog]
    if granularity == "per_tool":
        return [_each("args.{tool_set}.{tool}")]
    shared = _plan("args", "arguments", None)
    if granularity == "shared":
        return [shared]
    delta = 'delta_of = "args"              # its weights stay, so much of rank is added:\n'
    return [shared, _each("args.{tool_set}.{tool}", f"{delta}overrides.lora.rank = 4\n")]


def _plan(name: str, subtask: str, tool_set: str | None, comment: str = "") -> str:
    head = f"[[adapters]]{f'  # {comment}' if comment else ''}\n"
    place = f"tool_set = {json.dumps(tool_set)}\n" if tool_set else ""
    return f"{head}name = {json.dumps(name)}\nsubtask = {json.dumps(subtask)}\n{place}\n"


def _each(name: str, more: str = "") -> str:
    each = 'each = "tool"                  # one for every tool that the data calls\n'
    return f'[[adapters]]\nname = {json.dumps(name)}\nsubtask = "arguments"\n{each}{more}\n'


def _write(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)

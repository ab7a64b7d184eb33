"""Adapter granularity: plans with `each`, written out for the tool sets and tools of the data."""

from pathlib import Path
from typing import Any

from afx_train.corpus import Corpus, KnownTool, load_corpus
from afx_train.errors import RecipeError
from afx_train.trajectory import first_call_of
from agentflux.errors import ConfigError


def expanded(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write out every adapter with `each`: one for each tool set or tool of the data.

    Only for those with calls to learn in the train and the dev split.

    Raises:
        RecipeError: the data folders have no readable tools or trajectories, or none to learn.
    """
    plans = data.get("adapters")
    if not isinstance(plans, list) or not any(isinstance(p, dict) and p.get("each") for p in plans):
        return data
    written: list[object] = []
    for plan in plans:
        kind = plan.get("each") if isinstance(plan, dict) else None
        if kind in ("tool_set", "tool"):
            written += [_placed(plan, place) for place in _places(data, path, plan)]
        else:
            written.append(plan)
    return data | {"adapters": written}


def _places(data: dict[str, Any], path: Path, plan: dict[str, Any]) -> list[dict[str, str]]:
    """The tool sets or tools that the plan's adapters can be trained for."""
    corpus, each = _corpus(data, path), plan["each"]
    train, dev = _learned(corpus, needs_arguments=plan.get("subtask") == "arguments")
    if each == "tool":
        tools = [(name, tool.name) for name, held in corpus.catalog.items() for tool in held]
        found = [{"tool_set": n, "tool": tool} for n, tool in tools if (n, tool) in train & dev]
    else:
        sets = {name for name, _ in train} & {name for name, _ in dev}
        found = [{"tool_set": name} for name in corpus.catalog if name in sets]
    if not found:
        raise RecipeError(
            f"adapter {plan.get('name')!r}: `each` finds no {each.replace('_', ' ')} with calls to "
            "learn in the train and the dev split",
            where=str(path),
        )
    return found


def _corpus(data: dict[str, Any], path: Path) -> Corpus:
    folders = data.get("data")
    if not isinstance(folders, list) or not folders:
        raise RecipeError("`each` needs `data` folders", where=str(path))
    try:
        return load_corpus([path.parent / str(folder) for folder in folders])
    except ConfigError as error:
        raise RecipeError(
            f"`each` reads the data: {error}; make it with: afx-train data build",
            where=str(path),
        ) from error


def _learned(corpus: Corpus, *, needs_arguments: bool) -> list[set[tuple[str, str]]]:
    """(tool set, tool) of the calls in train and in dev that examples are made of."""
    teaching = {
        (name, tool.name)
        for name, tools in corpus.catalog.items()
        for tool in tools
        if not KnownTool(tool).deprecated and (tool.takes_arguments or not needs_arguments)
    }
    return [
        teaching
        & {
            (step.tool_set, step.tool)
            for item in corpus.trajectories
            if item.split == split
            for step in (item if item.verified else first_call_of(item)).steps
        }
        for split in ("train", "dev")
    ]


def _placed(plan: dict[str, Any], place: dict[str, str]) -> dict[str, Any]:
    filled = {key: value for key, value in plan.items() if key != "each"} | place
    for key in ("name", "warm_start", "delta_of"):
        for slot, value in place.items():
            if isinstance(filled.get(key), str):
                filled[key] = filled[key].replace(f"{{{slot}}}", value)
    return filled

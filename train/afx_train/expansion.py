"""Adapter granularity: plans with `each`, written out for the tool sets and tools of the data."""

from pathlib import Path
from typing import Any

from afx_train.corpus import load_corpus
from afx_train.errors import RecipeError
from agentflux.errors import ConfigError


def expanded(data: dict[str, Any], path: Path) -> dict[str, Any]:
    """Write out every adapter with `each`: one for each tool set or tool of the data.

    Raises:
        RecipeError: the data folders have no readable tools or trajectories.
    """
    plans = data.get("adapters")
    if not isinstance(plans, list) or not any(isinstance(p, dict) and p.get("each") for p in plans):
        return data
    written: list[object] = []
    for plan in plans:
        kind = plan.get("each") if isinstance(plan, dict) else None
        if kind in ("tool_set", "tool"):
            written += [_placed(plan, place) for place in _places(data, path, kind)]
        else:
            written.append(plan)
    return data | {"adapters": written}


def _places(data: dict[str, Any], path: Path, kind: str) -> list[dict[str, str]]:
    folders = data.get("data")
    if not isinstance(folders, list) or not folders:
        raise RecipeError("`each` needs `data` folders", where=str(path))
    try:
        corpus = load_corpus([path.parent / str(folder) for folder in folders])
    except ConfigError as error:
        raise RecipeError(
            f"`each` reads the data: {error}; make it with: afx-train data build",
            where=str(path),
        ) from error
    if kind == "tool_set":
        return [{"tool_set": name} for name in corpus.catalog]
    called = {
        split: {
            (s.tool_set, s.tool) for t in corpus.trajectories if t.split == split for s in t.steps
        }
        for split in ("train", "dev")
    }
    return [
        {"tool_set": name, "tool": tool.name}
        for name, tools in corpus.catalog.items()
        for tool in tools
        if tool.takes_arguments and all((name, tool.name) in calls for calls in called.values())
    ]


def _placed(plan: dict[str, Any], place: dict[str, str]) -> dict[str, Any]:
    filled = {key: value for key, value in plan.items() if key != "each"} | place
    for key in ("name", "warm_start", "delta_of"):
        for slot, value in place.items():
            if isinstance(filled.get(key), str):
                filled[key] = filled[key].replace(f"{{{slot}}}", value)
    return filled

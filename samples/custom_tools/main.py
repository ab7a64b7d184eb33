"""Plain Python functions as tools, no server: `python main.py BUNDLE "what is on my list?"`."""

import sys
from pathlib import Path
from typing import Literal

import agentflux

LIST = Path("shopping.txt")


@agentflux.tool(read_only=True)
def show_list() -> str:
    """Show what is on the shopping list."""
    return (LIST.read_text(encoding="utf-8") if LIST.exists() else "") or "The list is empty."


@agentflux.tool
def add_item(item: str, shop: Literal["grocery", "pharmacy", "any"] = "any") -> str:
    """Put an item on the shopping list.

    Args:
        item: what to buy
        shop: where to buy it
    """
    with LIST.open("a", encoding="utf-8") as stream:
        stream.write(f"{item} ({shop})\n")
    return f"{item} is on the list."


if __name__ == "__main__":
    bundle, request = sys.argv[1:]
    with agentflux.open_bundle(bundle, tools=[show_list, add_item]) as agent:
        print(agent.run(request).answer)

"""A world without a server, for tests of what needs none."""

from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from afx_train.data.template import Value
from afx_train.data.worlds import Need, ServerCommand, UnknownSlot

REPOSITORY = Path(__file__).parents[3]
SAMPLE = REPOSITORY / "samples" / "desk_assistant"

PHRASINGS = """
tool_set: shelf
values:
  who: [Anna, Óscar]
  city:
    - {said: Lisbon, tz: Europe/Lisbon}
    - {said: Oslo, tz: Europe/Oslo}
tools:
  take:
    - args: {item: "{item}", count: "{n}"}
      ask:
        - "Take {n|words} of {item|quoted} for {who}."
        - "{item}, {n} pieces"
    - args: {item: "{box}/{item|name}", zone: "{city.tz}"}
      ask:
        - "put {item} into {box}, {city.said} time"
    - args: {item: "{item}"}
      expect_error: true
      ask:
        - "take the missing {item}"
"""


class ShelfScene:
    """Items with a path; `n` is 2."""

    def __init__(self, rng: Random, need: Need) -> None:
        self.need, self.built = need, 0
        self.item = f"a/item {rng.randint(1, 10_000)}"

    @property
    def paths(self) -> Mapping[str, str]:
        return {"/shown": "/real"}

    def slot(self, name: str) -> Value:
        values: dict[str, Value] = {"item": self.item, "n": 2, "box": "box"}
        if name not in values:
            raise UnknownSlot(name)
        return values[name]

    def context(self, rng: Random) -> str:
        return f"Shelf: {self.item}"

    def refuses(self, tool: str, arguments: Mapping[str, Any]) -> str:
        return "odd" if self.item.endswith(("1", "3", "5", "7", "9")) else ""

    def accept(self, tool: str, arguments: Mapping[str, Any], request: str) -> list[dict[str, Any]]:
        return []

    def build(self) -> None:
        self.built += 1

    def observed(self, tool: str, text: str) -> str:
        return text


class ShelfWorld:
    """A world of one shelf."""

    tool_set = "shelf"
    server = ServerCommand(command="none")

    def needs_context(self, need: Need) -> bool:
        return False

    def scene(self, rng: Random, need: Need) -> ShelfScene:
        return ShelfScene(rng, need)

"""The recipe's reference, made of the models that validate it.

`python -m afx_train.reference docs/training.md` writes it between the file's markers.
"""

import re
import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from afx_train.recipe import AdapterPlan, ExampleShares, Lora, Recipe, Training

BEGIN, END = "<!-- recipe reference: begin -->", "<!-- recipe reference: end -->"
_SECTIONS = (
    ("Top level", Recipe),
    ("`[lora]`", Lora),
    ("`[training]`", Training),
    ("`[examples]`", ExampleShares),
    ("`[[adapters]]`", AdapterPlan),
)


def recipe_reference() -> str:
    """Every section's keys with type, default and meaning, as Markdown tables."""
    parts: list[str] = []
    for title, model in _SECTIONS:
        rows = [_row(name, field) for name, field in model.model_fields.items()]
        parts += [f"### {title}", "", "| key | default | meaning |", "|---|---|---|", *rows, ""]
    return "\n".join(parts).rstrip()


def with_reference(document: str) -> str:
    """The document with a fresh reference between its markers."""
    block = f"{BEGIN}\n{recipe_reference()}\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*{re.escape(END)}", lambda _: block, document, flags=re.S)


def _row(name: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or _BY_SECTION.get(name, "")).split())
    return f"| `{name}` | {_default(field)} | {meaning} |"


_BY_SECTION = {
    "lora": "See below; holds for every adapter that does not override it.",
    "training": "See below.",
    "examples": "See below.",
    "adapters": "The adapters, in the order in which they are trained.",
}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None or field.annotation in (Lora, Training, ExampleShares):
        return ""
    if field.default is None or field.default == ():
        return ""
    if isinstance(field.default, tuple):
        return ", ".join(f"`{item}`" for item in field.default)
    value = field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_reference(path.read_text(encoding="utf-8")), encoding="utf-8")

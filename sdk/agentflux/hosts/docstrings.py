"""The parts of a Google-style docstring that describe a function to a model."""

import inspect
import re

_SECTION = re.compile(r"^(Args|Arguments|Parameters):\s*$")
_PARAMETER = re.compile(r"^\*{0,2}(?P<name>\w+)\s*(?:\([^)]*\))?:\s*(?P<text>.*)$")


def summary(docstring: str | None) -> str:
    """Return the first paragraph as one line."""
    paragraph = inspect.cleandoc(docstring or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def argument_descriptions(docstring: str | None) -> dict[str, str]:
    """Return the text after each name of the `Args:` section, continuation lines joined."""
    described: dict[str, str] = {}
    name = ""
    indent = -1
    for line in _args_section(inspect.cleandoc(docstring or "").splitlines()):
        depth = len(line) - len(line.lstrip())
        indent = depth if indent < 0 else indent
        found = _PARAMETER.match(line.strip()) if depth == indent else None
        if found:
            name = found["name"]
            described[name] = found["text"].strip()
        elif name:
            described[name] = f"{described[name]} {line.strip()}".strip()
    return described


def _args_section(lines: list[str]) -> list[str]:
    start = next((i for i, line in enumerate(lines) if _SECTION.match(line)), None)
    if start is None:
        return []
    body: list[str] = []
    for line in lines[start + 1 :]:
        if line.strip() and not line[0].isspace():
            break
        if line.strip():
            body.append(line)
    return body

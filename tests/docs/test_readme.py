"""What the README shows is run as it stands there."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def blocks(repository: Path, language: str) -> list[str]:
    text = (repository / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.model
def test_the_embedded_example_calls_its_tool(
    repository: Path, desk_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (example,) = blocks(repository, "python")
    assert len(example.strip().splitlines()) <= 16
    exec(compile(example, "README.md", "exec"), {"bundle": desk_bundle})  # noqa: S102
    out = capsys.readouterr().out
    assert "read_text_file" in out
    assert "rye bread" in out


def test_every_make_target_of_the_readme_exists(repository: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (repository / "Makefile").read_text(), re.MULTILINE))
    named = {t for b in blocks(repository, "bash") for t in re.findall(r"make (?:-s )?([a-z]+)", b)}
    assert named
    assert named <= targets


def test_every_command_of_the_readme_exists(repository: Path) -> None:
    for block in blocks(repository, "bash"):
        for command, verb in re.findall(r"(afx(?:-[a-z]+)?) ([a-z]+(?:-[a-z]+)*)", block):
            script = shutil.which(command, path=str(Path(sys.executable).parent))
            assert script, command
            shown = subprocess.run([script, verb, "--help"], check=False, capture_output=True)
            assert shown.returncode == 0, (command, verb, shown.stderr)


def test_every_link_of_the_readme_leads_somewhere(repository: Path) -> None:
    text = (repository / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        if not target.startswith("http"):
            page = repository / (name or "README.md")
            assert page.exists(), target
            assert not anchor or anchor in _anchors(page), target


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}

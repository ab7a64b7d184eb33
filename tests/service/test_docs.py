"""What the service's documents say is so."""

import tomllib
from pathlib import Path

from edge_service.settings import Settings


def settings_table() -> str:
    rows = ["| name | default | what |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default in (None, "", ()) else f"`{field.default}`"
        if field.is_required():
            default = "required"
        elif field.default_factory is not None:
            default = "per user"
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def test_the_readme_lists_every_setting(repository: Path) -> None:
    text = (repository / "samples" / "edge_service" / "README.md").read_text(encoding="utf-8")
    assert text.endswith(settings_table())


def test_the_deployed_settings_are_settings(repository: Path) -> None:
    file = repository / "samples" / "edge_service" / "deploy" / "service.toml"
    given = tomllib.loads(file.read_text(encoding="utf-8"))
    assert set(given) <= set(Settings.model_fields)
    assert Settings.model_validate(given).host == "127.0.0.1"

"""`afx_adapter.json`: what training writes beside a PEFT adapter so that export can place it.

Any PEFT LoRA folder can be exported; the card is what tells its subtask. Without one,
`afx-export build` takes the same facts from its `--place` option.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentflux.contracts.bundle import Calibration, CatalogTool, Name, Sha256
from agentflux.contracts.prompts import PROMPT_CONTRACT, Boundary, Role
from agentflux.errors import ConfigError

CARD = "afx_adapter.json"


class AdapterCard(BaseModel):
    """Placement and provenance of one adapter. Fields as in the manifest's `AdapterEntry`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    subtask: Role
    tool_set: str | None = None
    tool: str | None = None
    boundary: Boundary
    described: bool = False
    prompt_contract: str = PROMPT_CONTRACT
    base_model: str
    base_weights_sha256: Sha256
    catalog: tuple[CatalogTool, ...] = ()
    calibration: Calibration = Calibration()
    training: dict[str, str] = Field(default_factory=dict)
    scores: dict[str, float] = Field(default_factory=dict)

    def with_thresholds(self, thresholds: Mapping[str, float]) -> Self:
        """Return the card with some fields of its calibration changed."""
        changed = self.calibration.model_copy(update=dict(thresholds))
        return self.model_copy(update={"calibration": changed})


def read_card(folder: Path) -> AdapterCard | None:
    """Read the card of an adapter folder; None when it has none.

    Raises:
        ConfigError: the card is not valid.
    """
    path = folder / CARD
    if not path.exists() and not path.is_symlink():
        return None
    try:
        if not path.is_file():
            raise ConfigError("is not a plain file", where=str(path))
        return AdapterCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:200]
        raise ConfigError(f"{where}: {first['msg']}", where=str(path)) from error


def write_card(folder: Path, card: AdapterCard) -> None:
    """Write the card with sorted keys."""
    text = json.dumps(card.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / CARD).write_text(text + "\n", encoding="utf-8")

"""Makes sdk/agentflux/trial_model: the tiny model of `afx doctor`. Random weights, two layers.

Run it from the repository's root when the runtime's graph format changes:
.venv/bin/python tests/make_trial_model.py
"""

import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "sdk" / "agentflux" / "trial_model"
KEPT = ("model.onnx", "model.onnx.data", "genai_config.json", "tokenizer.json", "adapters")


def main() -> None:
    """Export a tiny Llama with one adapter and keep what the runtime reads."""
    sys.path.insert(0, str(ROOT / "tests"))
    from tiny_models import save_adapter, save_card, save_model

    from afx_export.build import Request, build
    from agentflux.contracts.cache import CACHE_VARIABLE, weights_sha256

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ[CACHE_VARIABLE] = str(root / "cache")
        model = save_model(root / "tiny")
        adapter = save_adapter(root / "trial", targets=("q_proj", "v_proj"), rank=2)
        save_card(adapter, weights_sha256(model), subtask="select")
        out = root / "bundle"
        build(Request(model=str(model), profile="cpu-fp32", out=out, adapters=(adapter,)))
        shutil.rmtree(TARGET, ignore_errors=True)
        TARGET.mkdir()
        for name in (*KEPT, "tokenizer_config.json"):
            copy = shutil.copytree if (out / name).is_dir() else shutil.copyfile
            copy(out / name, TARGET / name)


if __name__ == "__main__":
    main()

"""The real model, from the cache: exported at int4 and compared with transformers + PEFT."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from afx_export.build import Request, build
from afx_export.placement import Place
from agentflux.contracts.cache import model_folder

pytestmark = pytest.mark.model
NAME = "smollm2-135m-instruct"


def _random_lora(folder: Path, seed: int, targets: list[str]) -> Path:
    """Make a LoRA with PEFT itself, in a process of its own: torch's memory goes back after."""
    code = (
        "import sys, torch\n"
        "from peft import LoraConfig, get_peft_model\n"
        "from transformers import AutoModelForCausalLM\n"
        "base, out, seed, *targets = sys.argv[1:]\n"
        "torch.manual_seed(int(seed))\n"
        "model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)\n"
        "model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=targets))\n"
        "for name, weight in model.named_parameters():\n"
        "    if 'lora_B' in name:\n"
        "        torch.nn.init.normal_(weight, std=0.02)\n"
        "model.save_pretrained(out)\n"
    )
    command = [sys.executable, "-c", code, str(model_folder(NAME)), str(folder), str(seed)]
    subprocess.run([*command, *targets], check=True, capture_output=True, env=dict(os.environ))
    return folder


def test_the_real_model_decodes_the_same_tokens_as_transformers(tmp_path: Path) -> None:
    route = _random_lora(tmp_path / "route", 1, ["q_proj", "k_proj", "v_proj", "o_proj"])
    pick = _random_lora(tmp_path / "pick", 2, ["gate_proj", "up_proj", "down_proj", "q_proj"])
    manifest = build(
        Request(
            model=NAME,
            profile="cpu-int4",
            out=tmp_path / "bundle",
            adapters=(route, pick),
            places={
                "route": Place(subtask="route"),
                "pick": Place(subtask="select", tool_set="filesystem"),
            },
        )
    )
    certificate = manifest.certificate
    assert certificate is not None
    assert [row.equal_tokens for row in certificate.fp32] == [36, 36, 36]
    assert max(row.max_logit_error for row in certificate.fp32) < 1e-3
    assert certificate.tokenizer_mismatches == 0
    assert manifest.base_model.licence == "Apache-2.0"

"""How much of an adapter a smaller rank would lose: the share of the squared norm of B·A.

    python tests/bench/rank_energy.py samples/desk_assistant/adapters/*

Over all layers together, for the best approximation of each rank (its largest singular values).
"""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

RANKS = (2, 4, 6, 8, 12)


def main() -> None:
    """Print a line of JSON an adapter: its rank, and the per cent lost at each smaller one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    for folder in parser.parse_args().folders:
        spectra = _spectra(folder / "adapter_model.safetensors")
        rank, total = max(map(len, spectra)), sum(float(s.sum()) for s in spectra)
        lost = {
            str(kept): round(100 * sum(float(s[kept:].sum()) for s in spectra) / total, 2)
            for kept in RANKS
            if kept < rank
        }
        print(json.dumps({"adapter": folder.name, "rank": rank, "per_cent_lost": lost}))


def _spectra(path: Path) -> list[torch.Tensor]:
    """The squared singular values of each B·A."""
    weights = load_file(path)
    found: list[torch.Tensor] = []
    for name, tensor in weights.items():
        if "lora_A" in name:
            a, b = tensor.float(), weights[name.replace("lora_A", "lora_B")].float()
            small = torch.linalg.qr(b).R @ torch.linalg.qr(a.mT).R.mT
            found.append(torch.linalg.svdvals(small) ** 2)
    return found


if __name__ == "__main__":
    main()

"""Damaged bundles and adapters are refused with an error of ours, or open unchanged.

`make fuzz` runs 2,000 cases; $AFX_FUZZ_CASES and $AFX_FUZZ_SEED choose others. A failing case is
named by its seed: AFX_FUZZ_SEED=<seed> AFX_FUZZ_CASES=1 repeats it.
"""

import os
import shutil
from pathlib import Path

from export.conftest import Exported
from export.fuzz.mutations import mutate
from export.fuzz.pool import Judge, judge

CASES = int(os.environ.get("AFX_FUZZ_CASES", "60"))
SEED = int(os.environ.get("AFX_FUZZ_SEED", "1"))


def _findings(one: Judge, wholes: list[Path], folder: Path) -> list[str]:
    found: list[str] = []
    for seed in range(SEED, SEED + CASES):
        case = folder / f"case-{seed}"
        shutil.copytree(wholes[seed % len(wholes)], case)
        done = mutate(case, seed)
        if problem := one.finding(case, may_differ="rehash" in done):
            found.append(f"seed {seed}: {done}\n  {problem}")
        shutil.rmtree(case)
        (folder / f"case-{seed}-outside").unlink(missing_ok=True)
    return found


def test_a_damaged_bundle_is_refused_or_opens_unchanged(exported: Exported, tmp_path: Path) -> None:
    with judge("bundle", exported.bundle, tmp_path / "log") as one:
        answer = one.ask(exported.bundle)
        assert answer["outcome"] == "opened", answer
        one.pristine = answer["digests"]
        # The base and three adapters: the comparison can tell them apart.
        assert len(set(one.pristine.values())) == 4
        found = _findings(one, [exported.bundle], tmp_path)
    assert not found, "\n".join(found)


def test_a_damaged_adapter_is_refused_or_is_what_peft_reads(
    exported: Exported, tmp_path: Path
) -> None:
    wholes = sorted(path for path in exported.adapters.iterdir() if path.is_dir())
    with judge("adapter", exported.model, tmp_path / "log") as one:
        for whole in wholes:
            assert one.ask(whole)["outcome"] == "opened"
        found = _findings(one, wholes, tmp_path)
    assert not found, "\n".join(found)

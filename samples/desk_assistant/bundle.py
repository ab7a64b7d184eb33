"""Builds the sample's bundle once and prints where it is.

The bundle lies in the cache folder under a name that holds a hash of everything it is made from, so
a change of an adapter or of the exporter makes a new one.
"""

import argparse
import hashlib
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from agentflux import cache_folder

HERE = Path(__file__).parent
MODEL = "smollm2-135m-instruct"
PROFILE = "cpu-int4"


def bundle_path(profile: str) -> Path:
    """Return where the bundle of this checkout belongs."""
    digest = hashlib.sha256(profile.encode())
    for path in sorted(_inputs()):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return cache_folder() / "bundles" / f"desk-{profile}-{digest.hexdigest()[:12]}"


def ensure_bundle(profile: str = PROFILE) -> Path:
    """Return the bundle, building it when it is not there."""
    bundle = bundle_path(profile)
    if not (bundle / "afx.json").exists():
        command = [sys.executable, "-m", "afx_export.cli", "build"]
        command += ["--model", MODEL, "--profile", profile, "--out", str(bundle)]
        command += ["--adapters", str(HERE / "adapters")]
        done = subprocess.run(command, check=False, stdout=sys.stderr)
        if done.returncode:  # afx-export has said what is wrong
            sys.exit(done.returncode)
    return bundle


def _inputs() -> list[Path]:
    found = [p for p in (HERE / "adapters").rglob("*") if p.is_file()]
    sources = {"agentflux": "contracts/*.py", "afx_export": "**/*.py", "afx_profiles": "**/*.toml"}
    for package, pattern in sources.items():
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations if spec else None) or ():
            found += Path(folder).glob(pattern)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default=PROFILE)
    print(ensure_bundle(parser.parse_args().profile))

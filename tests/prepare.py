"""Fills the cache folder with what the tests need: weights, servers, the sample's bundle, wheels.

Everything is kept, so that a second run needs no network.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from agentflux.contracts.cache import cache_folder

ROOT = Path(__file__).parents[1]
WHEELS = cache_folder() / "wheels"
RUNTIME = "cpu,mcp,service"


def main() -> None:
    """Prepare all, the slow things first."""
    desk = ROOT / "samples" / "desk_assistant"
    subprocess.run([sys.executable, str(desk / "bundle.py")], check=True)
    subprocess.run([sys.executable, str(desk / "servers.py"), "--install-only"], check=True)
    fill_wheelhouse()


def fill_wheelhouse() -> None:
    """Download the wheels of `.[cpu,mcp,service]`, once per set of dependencies."""
    wanted = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted += (ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8")
    done = WHEELS / "wanted.txt"
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return
    WHEELS.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    constraints = ["-c", str(ROOT / ".ci" / "constraints.txt")]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [*pip, "wheel", "--no-deps", "-w", folder, str(ROOT)], check=True, cwd=folder
        )
        wheel = next(Path(folder).glob("*.whl"))
        subprocess.run(
            [*pip, "download", "-d", str(WHEELS), *constraints, f"{wheel}[{RUNTIME}]", "hatchling"],
            check=True,
        )
    for own in WHEELS.glob("agentflux_edge-*.whl"):
        own.unlink()
    done.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()

"""The runtime keeps to itself: no file in the user's folders, no connection to anywhere."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
sys.addaudithook(lambda event, args: print(event) if event == "socket.connect" else None)
from agentflux.engines.trial import run_trial, tiny_folder, tiny_manifest
run_trial(tiny_folder(), tiny_manifest(tiny_folder()))
for name in os.listdir("/proc/self/fd"):
    try:
        target = os.readlink("/proc/self/fd/" + name)
    except OSError:
        continue
    if target.startswith("socket:"):
        print(target)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_loading_and_running_a_model_writes_nothing_and_connects_to_nobody(tmp_path: Path) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "ORT_"))}
    folders = {"HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=kept | folders,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert sorted(tmp_path.rglob("*")) == []

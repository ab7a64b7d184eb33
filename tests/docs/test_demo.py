"""`make demo` says when it does not work."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.model
@pytest.mark.usefixtures("desk_bundle")
def test_a_demo_that_cannot_run_says_why_in_one_line(repository: Path) -> None:
    script = repository / "samples" / "desk_assistant" / "demo.py"
    done = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": "/nonexistent"},
    )
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("demo: ")

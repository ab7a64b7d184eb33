"""Child processes that judge damaged folders, so that a native crash or hang is one finding."""

import json
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

WORKER = Path(__file__).parent / "worker.py"
# Generous: the machine may be busy. A case takes some 50 ms.
SECONDS_PER_CASE = 60
SECONDS_TO_START = 900
_NATIVE = re.compile(r"Traceback|\.(cc|cpp|h|hpp):\d+|0x[0-9a-f]{8,}|\x1b\[")


@dataclass(slots=True, kw_only=True)
class Judge:
    """One child process; started again after a crash or a hang."""

    kind: str
    reference: Path
    log: Path
    pristine: dict[str, str] = field(default_factory=dict[str, str])
    _child: "subprocess.Popen[str] | None" = None
    _stderr: IO[str] | None = None

    def finding(self, folder: Path, *, may_differ: bool = False) -> str:
        """Judge a folder; return what is wrong with the way it was handled, or nothing.

        may_differ: a manifest that agrees with the damage describes another bundle.
        """
        answer, said = self._ask(folder)
        if answer is None:
            return said
        if said:
            return f"native text on the screen: {said[:400]!r}"
        if answer["outcome"] == "broken":
            return f"not one of our errors:\n{answer['message'][-1500:]}"
        if answer["outcome"] == "refused":
            text = str(answer["message"])
            return f"unclear message: {text[:400]!r}" if _unclear(text) else ""
        if may_differ:
            return ""
        changed = {k for k, v in answer["digests"].items() if self.pristine.get(k) != v}
        return f"opened, but computes something else under {sorted(changed)}" if changed else ""

    def ask(self, folder: Path) -> dict[str, Any]:
        """Return the child's answer for a folder that is whole."""
        answer, said = self._ask(folder)
        assert answer is not None, said
        return answer

    def _ask(self, folder: Path) -> tuple[dict[str, Any] | None, str]:
        child = self._started()
        assert child.stdin is not None
        before = self.log.stat().st_size
        child.stdin.write(json.dumps(str(folder)) + "\n")
        child.stdin.flush()
        answer = self._answer(child, SECONDS_PER_CASE)
        if answer is None:
            code = child.poll()
            self.close()
            return None, f"crashed with status {code}" if code is not None else "hangs"
        with self.log.open(encoding="utf-8", errors="replace") as stream:
            stream.seek(before)
            return answer, stream.read()

    def _started(self) -> "subprocess.Popen[str]":
        if self._child is None:
            self._stderr = self.log.open("a", encoding="utf-8")
            self._child = subprocess.Popen(
                [sys.executable, str(WORKER), self.kind, str(self.reference)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
            )
            ready = self._answer(self._child, SECONDS_TO_START)
            assert ready == {"outcome": "ready"}, self.log.read_text(encoding="utf-8")[-2000:]
        return self._child

    def _answer(self, child: "subprocess.Popen[str]", seconds: float) -> dict[str, Any] | None:
        assert child.stdout is not None
        if not select.select([child.stdout], [], [], seconds)[0]:
            return None
        line = child.stdout.readline()
        if not line:
            child.wait()
            return None
        found: dict[str, Any] = json.loads(line)
        return found

    def close(self) -> None:
        """End the child."""
        if self._child is not None and self._stderr is not None:
            self._child.kill()
            self._child.wait()
            for stream in (self._child.stdin, self._child.stdout, self._stderr):
                if stream is not None:
                    stream.close()
            self._child = None


def _unclear(text: str) -> bool:
    return not text or len(text) > 2000 or "\n" in text or _NATIVE.search(text) is not None


@contextmanager
def judge(kind: str, reference: Path, log: Path) -> Iterator[Judge]:
    """Start a judge and end it."""
    one = Judge(kind=kind, reference=reference, log=log)
    try:
        yield one
    finally:
        one.close()

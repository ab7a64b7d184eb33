"""`afx-train` as a person meets it."""

import subprocess
import sys
from pathlib import Path

import pytest

from afx_train.cli import BAD_INPUT, main


def test_help_loads_no_training_stack() -> None:
    code = (
        "import sys\n"
        "from afx_train.cli import app\n"
        "from typer.testing import CliRunner\n"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0\n"
        "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nowhere.toml"], "nowhere.toml: cannot be read as TOML"),
        (["cases", "--data", "nowhere", "--out", "x"], "is not a folder of <tool_set>.json"),
        (["score", "--cases", "nowhere", "--predictions", "x"], "cannot be read"),
    ],
)
def test_bad_input_is_one_line_and_its_exit_code(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["afx-train", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == BAD_INPUT
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1

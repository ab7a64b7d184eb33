"""Trains the sample's adapters again: phrasings → verified data → adapters, as a recipe says.

    python train.py [recipe.toml | ../general/recipe.toml]

Slow. Goes on where it was stopped. The data lies in `data/` here and in `samples/general`, not in
the repository; the adapters replace those in `adapters/`.
"""

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
GENERAL = HERE.parent / "general"
OWN = HERE / "recipe.toml"
INTENTS = HERE / "adapters" / "intents.npz"
RETRIEVER = HERE / "adapters" / "retriever.npz"
SEED = 0


def main() -> None:
    """Fetch the model, build the data where it is not there, train."""
    run("afx_export.cli", "fetch", "smollm2-135m-instruct")
    subprocess.run([sys.executable, str(HERE / "servers.py"), "--install-only"], check=True)
    data = HERE / "data"
    if not (data / "report.json").exists():
        folders = ["--grammars", str(HERE / "phrasings"), "--worlds", str(HERE / "worlds.py")]
        how = ["--out", str(data), "--seed", str(SEED), "--per-phrasing", "1"]
        run("afx_train.cli", "data", "build", *folders, *how)
    if not (GENERAL / "data" / "report.json").exists():
        shutil.rmtree(GENERAL / "parts", ignore_errors=True)  # cut from what is made anew
        many = [str(GENERAL / "servers"), "--out", str(GENERAL / "data")]
        run("afx_train.cli", "data", "import", "servers", *many)
    if not (GENERAL / "parts" / "report.json").exists():
        small = [str(GENERAL / "data"), "--out", str(GENERAL / "parts")]
        run("afx_train.cli", "data", "parts", *small)
    recipe = Path(sys.argv[1] if len(sys.argv) > 1 else OWN).resolve()
    trained = HERE / "trained"
    run("afx_train.cli", "run", str(recipe), "--out", str(trained), "--resume")
    if recipe == OWN.resolve():
        run("afx_train.cli", "intents", str(recipe), "--out", str(INTENTS))
    else:
        run("afx_train.cli", "retriever", str(recipe), "--out", str(RETRIEVER))
    for card in trained.glob("*/afx_adapter.json"):
        place_copy(card.parent, HERE / "adapters" / card.parent.name)


def place_copy(source: Path, target: Path) -> None:
    """Copy a folder whole before it takes its place; after a kill the next run does it again."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(source, partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def run(module: str, *arguments: str) -> None:
    """Run one of our commands in this Python."""
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


if __name__ == "__main__":
    main()

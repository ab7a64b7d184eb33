"""What word counts alone know: a floor that adapters have to beat.

    python tests/bench/words.py samples/desk_assistant/data [--curve]

A logistic regression on word and character n-grams of the request names the tool set and the tool
of first steps. It sees no catalog, serves no other tool and writes no arguments; trained and asked
on the same splits as the adapters, it tells whether the data or their training limits these.
`--curve` trains it on an eighth, a quarter, a half and all of the phrasings of each tool set.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NONE = "none"


def main() -> None:
    """Train on the training split, print the shares answered right in the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--curve", action="store_true")
    options = parser.parse_args()
    data = options.data
    rows = {
        split: list(_first_steps(data / f"{split}.jsonl")) for split in ("train", "dev", "test")
    }
    _tell("tool set", {split: [(r, s) for r, s, _ in found] for split, found in rows.items()})
    _tell("tool", {split: [(r, f"{s}.{t}") for r, s, t in found] for split, found in rows.items()})
    for name in sorted({s for _, s, _ in rows["train"]} - {NONE}):
        of_set = {sp: [(r, t) for r, s, t in found if s == name] for sp, found in rows.items()}
        for parts in (8, 4, 2, 1) if options.curve else (1,):
            train = [row for row in of_set["train"] if _draw(row[0]) % parts == 0]
            _tell(f"tool of {name}", of_set | {"train": train})


def _first_steps(path: Path) -> Iterator[tuple[str, str, str]]:
    """Requests of one call or none, with its tool set and tool."""
    for line in path.read_text(encoding="utf-8").splitlines():
        item = json.loads(line)
        if len(item["steps"]) > 1:
            continue
        step = item["steps"][0] if item["steps"] else {"tool_set": NONE, "tool": NONE}
        yield item["request"], step["tool_set"], step["tool"]


def _draw(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def _tell(what: str, rows: dict[str, list[tuple[str, str]]]) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True)
    model: Any = make_pipeline(
        make_union(words, letters), LogisticRegression(C=20, max_iter=400)
    ).fit(*zip(*rows["train"], strict=True))
    shares = {s: model.score(*zip(*rows[s], strict=True)) for s in ("dev", "test")}
    shown = ", ".join(
        f"{s} {100 * share:.1f} % (n = {len(rows[s])})" for s, share in shares.items()
    )
    print(f"{what}: {shown}; learned {len(rows['train'])}")


if __name__ == "__main__":
    main()

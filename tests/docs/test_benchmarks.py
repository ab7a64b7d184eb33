"""What benchmarks saved can be read by those that compare with it."""

import json

from bench import evidence


def test_the_evidence_finds_its_own_rows_among_all_that_was_saved() -> None:
    saved = json.loads((evidence.KNOWN / "evidence-quick.json").read_text(encoding="utf-8"))
    known = evidence.known_rows(saved["cell"])
    assert known.keys() == {row["row"] for row in saved["rows"]}
    assert evidence.known_rows({"tool_set": "another"}) == {}

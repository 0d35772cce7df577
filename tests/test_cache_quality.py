"""The measuring command counts what it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perf import cache_quality

PAIRS = [
    {"a": "How do I bake bread?", "b": "What is the way to bake bread?", "label": 1, "source": "own"},
    {"a": "What is the capital of Peru?", "b": "Why is the sea salty?", "label": 0, "source": "own"},
    {"a": "Is tea healthy?", "b": "Is tea not healthy?", "label": 0, "source": "own:high-overlap"},
]


def test_it_counts_hits_with_and_without_the_guard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(json.dumps(pair) for pair in PAIRS) + "\n")
    cache_quality.measure(pairs, tmp_path / "out", tmp_path / "curve.png")
    document = json.loads((tmp_path / "out" / "cache-quality.json").read_text())
    rows = {(row["threshold"], row["guard"]): row for row in document["rows"]}
    assert {threshold for threshold, _ in rows} >= {0.75, 0.8, 0.85, 0.92, 0.95, document["default"]}
    alone, guarded = rows[0.75, False], rows[0.75, True]
    assert (alone["found"], alone["wrong"], alone["wrong_hard"]) == (1, 1, 1)
    assert (guarded["found"], guarded["wrong"], guarded["wrong_hard"]) == (1, 0, 0)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "| 0.75 |" in capsys.readouterr().out


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps(PAIRS[0]) + "\n{}\n")
    with pytest.raises(ValueError, match=r"pairs\.jsonl:2"):
        cache_quality.read_pairs(pairs)

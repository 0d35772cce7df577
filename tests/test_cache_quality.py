"""The measuring command counts what it should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from perf import cache_quality

PAIRS = [
    {"a": "How do I bake bread?", "b": "how do I bake bread", "label": 1, "source": "own"},
    {"a": "What is the capital of Peru?", "b": "Why is the sea salty?", "label": 0, "source": "own"},
    {"a": "Is tea healthy?", "b": "Is tea not healthy?", "label": 0, "source": "own:high-overlap"},
]


def test_it_counts_hits_with_and_without_the_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("\n".join(json.dumps(pair) for pair in PAIRS) + "\n")
    twins = {"question": PAIRS[0]["a"], "paraphrase": PAIRS[0]["b"], "changed": "Why do I bake bread?"}
    (tmp_path / "minimal_pairs.jsonl").write_text(json.dumps(twins))
    for name in ("paraphrases", "exchanged", "fresh", "blind", "look_alikes"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps([PAIRS[2]["a"], PAIRS[2]["b"]]))
    cache_quality.measure(pairs, tmp_path / "out", tmp_path / "curve.png", same=[2], questions=tmp_path)
    document = json.loads((tmp_path / "out" / "cache-quality.json").read_text())
    labelled, corrected = document["labels"]["as labelled"], document["labels"]["1 corrected"]
    rows = {(row["threshold"], row["judged"]): row for row in labelled["rows"]}
    assert {threshold for threshold, _ in rows} >= {0.75, 0.8, 0.85, 0.92, 0.95, document["default"]}
    alone, judged = rows[0.75, False], rows[0.75, True]
    assert (alone["found"], alone["wrong"], alone["wrong_hard"]) == (1, 1, 1)
    assert (judged["found"], judged["wrong"], judged["wrong_hard"]) == (1, 0, 0)
    assert (labelled["duplicates"], corrected["duplicates"]) == (1, 2)
    assert document["sets"]["twins"]["pairs"] == 2
    assert [document["sets"][name]["taken"] for name in ("paraphrases of the twins' questions", "look-alikes")] == [
        1,
        0,
    ]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "| 0.75 |" in capsys.readouterr().out


def test_ranking() -> None:
    scores, labels = np.asarray([0.9, 0.8, 0.7, 0.6, 0.0]), np.asarray([True, False, True, False, True])
    assert cache_quality.auc(scores, labels) == 0.5
    assert [cache_quality.found_before(scores, labels, wrong) for wrong in (0, 1, 2)] == [1, 2, 2]


def test_a_line_that_is_no_pair_is_named(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(json.dumps(PAIRS[0]) + "\n{}\n")
    with pytest.raises(ValueError, match=r"pairs\.jsonl:2"):
        cache_quality.read_pairs(pairs)

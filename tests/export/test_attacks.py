"""What the report says of attacks: rates at the rule's default, by source, and along the curve."""

from __future__ import annotations

import numpy as np
import pytest

from export.attacks import Judged
from export.encoder import Row


@pytest.fixture
def judged() -> Judged:
    scores = {
        "benign": [0.0, 0.1, 0.2, 0.3, 0.4, 0.4, 0.45, 0.6, 0.7, 0.9],
        "jailbreak": [0.5, 0.95],
        "prompt_injection": [0.2, 0.8],
        "harmful_request": [0.1, 0.6],
    }
    rows = [Row("", label, f"{label}:{number % 2}") for label, each in scores.items() for number in range(len(each))]
    return Judged(tuple(rows), np.asarray([score for each in scores.values() for score in each]))


def test_shares_at_the_default_count_attacks_apart_from_harmful_requests(judged: Judged) -> None:
    assert judged.labels == ["benign", "harmful_request", "jailbreak", "prompt_injection"]
    assert judged.flagged("benign") == pytest.approx(0.3)
    assert judged.flagged("jailbreak") == 1.0, "0.5 is reached"
    assert judged.flagged("harmful_request") == 0.5
    assert judged.flagged() == pytest.approx(7 / 16)
    assert judged.by_source("prompt_injection") == {"prompt_injection": (2, 0.5)}


def test_a_rate_of_false_alarms_is_kept_by_its_threshold(judged: Judged) -> None:
    for rate, caught in [(0.0, 0.25), (0.1, 0.5), (0.3, 0.75)]:
        threshold = judged.threshold_of(rate)
        assert (judged.of("benign") >= threshold).mean() <= rate
        assert judged.caught(threshold) == caught

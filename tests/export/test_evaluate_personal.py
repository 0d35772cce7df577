"""How rules for personal data are measured."""

from __future__ import annotations

from export.evaluate_personal import disguised, f1, scores, whole
from triton_router.personal import Finding

ROWS = [
    {"text": "card 4111 1111 1111 1111 of Ann", "spans": [[5, 24, "CREDIT_CARD"], [28, 31, "PERSON"]]},
    {"text": "mail ann@mail.example!", "spans": [[5, 20, "EMAIL_ADDRESS"]]},
    {"text": "from 203.0.113.7", "spans": []},
]


def test_exact_and_touched_spans_and_those_elsewhere_are_counted() -> None:
    table = scores(ROWS)
    assert table["CREDIT_CARD"] == (1, 1, 1, 0)
    assert table["EMAIL_ADDRESS"] == (1, 0, 1, 0)
    assert table["IP_ADDRESS"] == (0, 0, 0, 1)


def test_disguises_are_counted_over_what_is_seen_without_one() -> None:
    table = disguised(ROWS)
    assert table["as written"] == (1, 1)
    assert table["characters without width"] == (1, 1)
    assert table["digits in words"] == (1, 1)
    assert table["turned around"] == (1, 0)
    assert table["at and dot in words"] == (0, 0), "nothing to write so in a card's number"


def test_labels_of_one_address_are_one() -> None:
    text = "Ann\n\n12 Oak Lane\n Paris\n France 123, in Rome"
    spans = [(0, 3, "PERSON"), (5, 7, "STREET_ADDRESS"), (8, 16, "STREET_ADDRESS"), (18, 23, "GPE"), (25, 31, "GPE"),
             (32, 35, "STREET_ADDRESS"), (40, 44, "GPE")]  # fmt: skip
    row = whole({"text": text, "spans": [list(span) for span in spans]})
    assert row["spans"] == [(0, 3, "PERSON"), (5, 35, "STREET_ADDRESS"), (40, 44, "GPE")]
    findings = [Finding(0, 3, "PERSON"), Finding(5, 35, "STREET_ADDRESS")]
    assert f1([row], lambda _: findings, overlapping=False) == 1

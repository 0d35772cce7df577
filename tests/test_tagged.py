"""Names and addresses out of what a head says of each token: whole, joined, and where they stand."""

from __future__ import annotations

import numpy as np
import pytest

from triton_router.tagged import LENGTH, Tag, Tagging, findings, tags, windows

LABELS = ("O", *(f"{mark}-{kind}" for kind in ("GIVEN_NAME", "SURNAME", "BUILDING_NUMBER", "STREET_NAME",
                                               "SECONDARY_ADDRESS", "CITY", "ZIP_CODE") for mark in "BI"))  # fmt: skip
ADDRESS = "To Ada K. Byron,\n12 St James's Square\n Suite 4\n London 45001, today"
EXAMPLES = {
    "Ada": "GIVEN_NAME", "Byron": "SURNAME", "12": "BUILDING_NUMBER", "St": "STREET_NAME", "James's": "STREET_NAME",
    "Square": "STREET_NAME", "4": "SECONDARY_ADDRESS", "London": "CITY", "45001": "ZIP_CODE",
}  # fmt: skip


def said(text: str, labels: dict[str, str], probability: float = 0.95) -> Tagging:
    """Each word of ``labels`` with its label, all other words with none; words are tokens."""
    places, rows, end = [], [], 0
    for word in text.replace(",", " ").split():
        start = text.index(word, end)
        end = start + len(word)
        row = np.zeros(len(LABELS), np.float32)
        kind = labels.get(word)
        row[LABELS.index(f"B-{kind}") if kind else 0] = probability
        places.append((start, end))
        rows.append(row)
    return Tagging(places, np.stack(rows))


def found(text: str, labels: dict[str, str], probability: float = 0.95) -> list[tuple[str, str]]:
    each = findings(text, tags(text, [said(text, labels, probability)], LABELS))
    return [(finding.type, text[finding.start : finding.end]) for finding in each]


def test_a_name_and_an_address_are_whole() -> None:
    address = "12 St James's Square\n Suite 4\n London 45001"
    assert found(ADDRESS, EXAMPLES) == [("PERSON", "Ada K. Byron"), ("STREET_ADDRESS", address)]


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("from London to Paris", {"London": "CITY", "Paris": "CITY"}, [("GPE", "London"), ("GPE", "Paris")]),
        ("a 110 volt line", {"110": "BUILDING_NUMBER"}, []),
        ("code 45001", {"45001": "ZIP_CODE"}, [("ZIP_CODE", "45001")]),
        ("Ada and Eve", {"Ada": "GIVEN_NAME", "Eve": "GIVEN_NAME"}, [("PERSON", "Ada"), ("PERSON", "Eve")]),
        ("at Unit 5 Oak Lane", {"5": "SECONDARY_ADDRESS", "Oak": "STREET_NAME", "Lane": "STREET_NAME"},
         [("STREET_ADDRESS", "Unit 5 Oak Lane")]),
        ("nobody here", {}, []),
    ],
)  # fmt: skip
def test_what_stands_alone(text: str, labels: dict[str, str], expected: list[tuple[str, str]]) -> None:
    assert found(text, labels) == expected


def test_what_is_not_sure_is_no_finding() -> None:
    assert found("call Ada", {"Ada": "GIVEN_NAME"}, 0.6) == []
    assert found("in London", {"London": "CITY"}, 0.8) == []


def test_a_part_of_a_word_stands_for_the_word_but_not_for_a_line_without_spaces() -> None:
    assert findings("Ada-Byronova!", [Tag(4, 9, "PERSON")])[0][:2] == (4, 12)
    assert findings("\u6211\u53eb\u674e\u534e\u3002", [Tag(2, 4, "PERSON")])[0][:2] == (2, 4)


def test_windows_hold_every_character() -> None:
    text = "".join(f"{number:05}" for number in range(400))
    pieces = list(windows(text))
    assert all(len(piece) <= LENGTH and text[start : start + len(piece)] == piece for start, piece in pieces)
    assert {place for start, piece in pieces for place in range(start, start + len(piece))} == set(range(len(text)))

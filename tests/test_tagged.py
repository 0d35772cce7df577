"""Names and addresses out of what a head says of each token: whole, joined, and where they stand."""

from __future__ import annotations

import numpy as np
import pytest

from triton_router.personal import Finding
from triton_router.signals.pii import beside
from triton_router.tagged import LENGTH, Tag, Tagging, findings, tags, windows

LABELS = ("O", *(f"{mark}-{kind}" for kind in ("GIVEN_NAME", "SURNAME", "BUILDING_NUMBER", "STREET_NAME",
                                               "SECONDARY_ADDRESS", "CITY", "ZIP_CODE") for mark in "BI"))  # fmt: skip
ADDRESS = "To Ada K. Byron,\n12 St James's Square\n Suite 4\n London 45001, today"
EXAMPLES = {
    "Ada": "GIVEN_NAME", "Byron": "SURNAME", "12": "BUILDING_NUMBER", "St": "STREET_NAME", "James's": "STREET_NAME",
    "Square": "STREET_NAME", "4": "SECONDARY_ADDRESS", "London": "CITY", "45001": "ZIP_CODE",
}  # fmt: skip


def tagging(text: str, labels: dict[str, str], probability: float = 0.99) -> Tagging:
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


def entities(text: str, labels: dict[str, str], probability: float = 0.99) -> list[tuple[str, str]]:
    each = findings(text, tags(text, [tagging(text, labels, probability)], LABELS))
    return [(finding.type, text[finding.start : finding.end]) for finding in each]


def test_a_name_and_an_address_are_whole() -> None:
    address = "12 St James's Square\n Suite 4\n London 45001"
    assert entities(ADDRESS, EXAMPLES) == [("PERSON", "Ada K. Byron"), ("STREET_ADDRESS", address)]


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
        ("Mrs. Byron flew", {"Byron": "SURNAME", "flew": "SURNAME"}, [("PERSON", "Byron")]),
        ("Ada van der Byron", {"Ada": "GIVEN_NAME", "van": "SURNAME", "der": "SURNAME", "Byron": "SURNAME"},
         [("PERSON", "Ada van der Byron")]),
        ("ada byron", {"ada": "GIVEN_NAME", "byron": "SURNAME"}, [("PERSON", "ada byron")]),
        ("Ada\nEve", {"Ada": "GIVEN_NAME", "Eve": "GIVEN_NAME"}, [("PERSON", "Ada"), ("PERSON", "Eve")]),
        ("Ada Byron wrote. Was Byron well?", {"Ada": "GIVEN_NAME", "Byron": "SURNAME"},
         [("PERSON", "Ada Byron"), ("PERSON", "Byron")]),
        ("on Abbey Road", {"Abbey": "STREET_NAME", "Road": "STREET_NAME"}, []),
        ("at 5 Oak Lane, New Ross, Ireland 12345 today", {"5": "BUILDING_NUMBER", "Oak": "STREET_NAME"},
         [("STREET_ADDRESS", "5 Oak Lane, New Ross, Ireland 12345")]),
        ("5 Oak Lane\n Ireland\nPhone: 1", {"5": "BUILDING_NUMBER", "Oak": "STREET_NAME", "Lane": "STREET_NAME"},
         [("STREET_ADDRESS", "5 Oak Lane\n Ireland")]),
        ("5 Oak Lane\nAda", {"5": "BUILDING_NUMBER", "Oak": "STREET_NAME", "Lane": "STREET_NAME", "Ada": "GIVEN_NAME"},
         [("STREET_ADDRESS", "5 Oak Lane"), ("PERSON", "Ada")]),
        ("5 Oak Lane. He", {"5": "BUILDING_NUMBER", "Oak": "STREET_NAME", "Lane": "STREET_NAME"},
         [("STREET_ADDRESS", "5 Oak Lane")]),
        ("to PSC 1234, Box 5678\nAPO AE 09345 now", {}, [("STREET_ADDRESS", "PSC 1234, Box 5678\nAPO AE 09345")]),
        ("How is badminton played?", {"badminton": "CITY"}, []),
        ("how is london?", {"london?": "CITY"}, [("GPE", "london?")]),
        ("London 45001", {"London": "CITY", "45001": "ZIP_CODE"}, [("GPE", "London"), ("ZIP_CODE", "45001")]),
        ("Ada K Lovelock came", {"Ada": "GIVEN_NAME", "K": "SURNAME"}, [("PERSON", "Ada K Lovelock")]),
        ("ada k byron", {"ada": "GIVEN_NAME", "k": "SURNAME"}, [("PERSON", "ada k byron")]),
        ("Ada K is here", {"Ada": "GIVEN_NAME", "K": "SURNAME"}, [("PERSON", "Ada K")]),
        ("\u5f3a \u8d75 at", {"\u5f3a": "GIVEN_NAME", "\u8d75": "SURNAME"}, [("PERSON", "\u5f3a \u8d75")]),
        ("is 45001 + 103 odd?", {"45001": "ZIP_CODE", "103": "ZIP_CODE"}, []),
        ("London - 45001", {"London": "CITY", "45001": "ZIP_CODE"}, [("GPE", "London"), ("ZIP_CODE", "45001")]),
        ("1110 0111", {"1110": "BUILDING_NUMBER", "0111": "ZIP_CODE"}, []),
        ("the corner of 5 Oak Lane and Elm Road at noon", {"5": "BUILDING_NUMBER", "Oak": "STREET_NAME",
         "Lane": "STREET_NAME"}, [("STREET_ADDRESS", "the corner of 5 Oak Lane and Elm Road")]),
        ("the corner of 5 Oak Lane and so on", {"5": "BUILDING_NUMBER", "Oak": "STREET_NAME", "Lane": "STREET_NAME"},
         [("STREET_ADDRESS", "5 Oak Lane")]),
        ("Acme\nPSC 1234, Box 5678\nAPO AE 09345", {"Acme": "STREET_NAME", "PSC": "STREET_NAME",
         "1234": "BUILDING_NUMBER"}, [("STREET_ADDRESS", "PSC 1234, Box 5678\nAPO AE 09345")]),
        ("Oak 5\n# Postbus 7\n# Oslo 0150", {"Oak": "STREET_NAME", "5": "BUILDING_NUMBER", "Oslo": "CITY",
         "0150": "ZIP_CODE"}, [("STREET_ADDRESS", "Oak 5\n# Postbus 7\n# Oslo 0150")]),
        ("Oak 5\n# near\n# 6 Elm", {"Oak": "STREET_NAME", "5": "BUILDING_NUMBER", "6": "BUILDING_NUMBER",
         "Elm": "STREET_NAME"}, [("STREET_ADDRESS", "Oak 5"), ("STREET_ADDRESS", "6 Elm")]),
        ("Oak 5\n# Ada\n# Oslo", {"Oak": "STREET_NAME", "5": "BUILDING_NUMBER", "Ada": "GIVEN_NAME", "Oslo": "CITY"},
         [("STREET_ADDRESS", "Oak 5"), ("PERSON", "Ada"), ("GPE", "Oslo")]),
    ],
)  # fmt: skip
def test_what_stands_alone(text: str, labels: dict[str, str], expected: list[tuple[str, str]]) -> None:
    assert entities(text, labels) == expected


def test_what_is_not_sure_is_no_finding() -> None:
    assert entities("call Ada", {"Ada": "GIVEN_NAME"}, 0.6) == []
    assert entities("in London", {"London": "CITY"}, 0.95) == []


def test_a_name_in_small_letters_is_surer_in_a_text_with_capitals() -> None:
    assert entities("I met ada", {"ada": "GIVEN_NAME"}, 0.8) == []
    assert entities("I met ada", {"ada": "GIVEN_NAME"}, 0.95) == [("PERSON", "ada")]
    assert entities("i met ada", {"ada": "GIVEN_NAME"}, 0.8) == [("PERSON", "ada")]


def test_what_is_less_sure_counts_next_to_what_is_sure() -> None:
    words = [Tag(0, 3, "PERSON", 0.4), Tag(4, 9, "PERSON", 0.9)]
    assert findings("Ada Byron", words) == [(0, 9, "PERSON")]
    assert findings("Ada. Is Byron", words[:1]) == []


def test_an_initial_with_a_dot_goes_on() -> None:
    assert findings("Ada K. Lovelock", [Tag(0, 3, "PERSON", 0.9), Tag(4, 5, "PERSON", 0.3)]) == [(0, 15, "PERSON")]


def test_a_compound_is_whole_or_no_part_of_a_name() -> None:
    first, second, surname = Tag(0, 2, "PERSON", 0.8), Tag(3, 6, "PERSON", 0.8), Tag(7, 12, "PERSON", 0.9)
    assert findings("ex-Ada Byron", [second, surname]) == [(7, 12, "PERSON")]
    assert findings("al-Ada Byron", [first, second, surname]) == [(0, 12, "PERSON")]
    assert findings("ex-Ada spoke", [second]) == [(3, 6, "PERSON")], "too much rather than too little"


def test_an_address_begins_with_the_line_of_its_first_sure_word() -> None:
    words = [Tag(0, 3, "CITY", 0.4), Tag(4, 7, "STREET_NAME", 0.8), Tag(8, 9, "BUILDING_NUMBER", 0.95)]
    assert findings("Ulm\nOak 5", words) == [(4, 9, "STREET_ADDRESS")]


def test_of_a_word_in_two_windows_the_surer_reading_counts() -> None:
    words = [Tag(0, 3, "PERSON", 0.9), Tag(0, 3, "CITY", 0.3)]
    assert findings("Ada", words) == findings("Ada", words[::-1]) == [(0, 3, "PERSON")]


def test_tokens_of_one_word_count_together_but_not_those_of_a_line_without_spaces() -> None:
    name = np.zeros((2, len(LABELS)), np.float32)
    name[:, LABELS.index("B-SURNAME")] = [1, 0.6]
    for text, words in (("Byron", [(0, 5)]), ("\u674e\u534e", [(0, 1), (1, 2)])):
        middle = words[0][1] if len(words) > 1 else 2
        tagging = Tagging([(0, middle), (middle, len(text))], name)
        assert [tag[:2] for tag in tags(text, [tagging], LABELS)] == words


def test_a_finding_of_rules_ends_an_address() -> None:
    text = "5 Oak Lane\n+44 20 7946 0958"
    rules = [Finding(11, len(text), "PHONE_NUMBER")]
    tagged = [Finding(0, 14, "STREET_ADDRESS"), Finding(14, 20, "ZIP_CODE")]
    assert beside(text, rules, tagged) == [Finding(0, 10, "STREET_ADDRESS")]


@pytest.mark.parametrize("text", ["".join(f"{number:05}" for number in range(400)), "word " * 400, "", " "])
def test_windows_hold_every_character(text: str) -> None:
    pieces = list(windows(text))
    assert all(len(piece) <= LENGTH and text[start : start + len(piece)] == piece for start, piece in pieces)
    held = {place for start, piece in pieces for place in range(start, start + len(piece))}
    assert held == (set(range(len(text))) if text.strip() else set())
    assert "word" not in text or all(piece.startswith("word ") for _, piece in pieces)

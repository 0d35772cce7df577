"""Names and addresses in a text, out of what a head says of each token; see the model `names` of `export/models.yaml`.

The head tags words: given names and surnames, and the parts of an address. Parts that stand together are one finding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from triton_router.personal import Finding

HEAD = "names"
TYPES = ("PERSON", "STREET_ADDRESS", "GPE", "ZIP_CODE")

_NAMES = frozenset({"GIVEN_NAME", "SURNAME"})
_STREETS = frozenset({"BUILDING_NUMBER", "STREET_NAME", "SECONDARY_ADDRESS"})
_PLACES = frozenset({"CITY", "STATE"})
_ADDRESSES = _STREETS | _PLACES | {"ZIP_CODE"}

# Least probabilities of a name and of an address, measured in docs/protection.md. An address that has begun goes on at
# a part of the second.
PERSON, ADDRESS, GOES_ON = 0.7, 0.9, 0.3

# Characters that are tagged at once, in which the tagger's author found its recall best, and how many are shared.
LENGTH, OVERLAP = 480, 64

# What stands between two parts of one address, before the first, and between a name and a surname.
_BETWEEN = re.compile(
    r"(?i)[\s,.#?]{0,6}(?:(?:suite|apt|unit|box|ste|floor|p\.?\s?o\.? box|psc|st|str|street|no)\b\.?[\s,#]*)*"
)
_BEFORE = re.compile(r"(?i)(?:suite|apt\.?|unit|box|p\.?\s?o\.? box|psc)[ #]+$")
_INITIAL = re.compile(r"\s+[A-Za-z]\.?\s+")
# Scripts without spaces between words begin here.
_WORDLESS = "\u2e80"


class Tag(NamedTuple):
    """A ``kind`` of name or address at [start, end) characters of a text."""

    start: int
    end: int
    kind: str


class Tagging(NamedTuple):
    """What a head says of the tokens of one window: their [start, end) in the text, and FP32 [tokens, labels]."""

    places: Sequence[tuple[int, int]]
    probabilities: NDArray[np.float32]


def windows(text: str) -> Iterable[tuple[int, str]]:
    """The pieces of ``text`` that are tagged, each with its place."""
    for start in range(0, max(len(text) - OVERLAP, 1), LENGTH - OVERLAP):
        if (piece := text[start : start + LENGTH]).strip():
            yield start, piece


def tags(piece: str, taggings: Iterable[Tagging], labels: Sequence[str]) -> tuple[Tag, ...]:
    """The words of ``piece`` that are names or parts of addresses."""
    kinds = [label[2:] for label in labels]
    person = np.array([kind in _NAMES for kind in kinds])
    address = np.array([kind in _ADDRESSES for kind in kinds])
    spans: list[Tag] = []
    for tagging in taggings:
        last: Tag | None = None
        for (start, end), row in zip(tagging.places, tagging.probabilities, strict=True):
            if end <= start:
                continue
            goes_on = last is not None and last.kind != "PERSON"
            names, places = float(row[person].sum()), float(row[address].sum())
            if names >= PERSON and names >= places:
                kind = "PERSON"
            elif places >= (ADDRESS * GOES_ON if goes_on else ADDRESS):
                kind = kinds[int(np.argmax(np.where(address, row, 0)))]
            else:
                last = None
                continue
            between = piece[last.end : start] if last is not None else ""
            if last is not None and last.kind == kind and len(between) <= 2 and not between.strip(" .-'"):
                last = spans[-1] = Tag(last.start, end, kind)
            else:
                last = Tag(start, end, kind)
                spans.append(last)
    return tuple(spans)


def findings(text: str, spans: Iterable[Tag]) -> list[Finding]:
    """Names and addresses, whole words each; in order and without overlaps."""
    joined: list[tuple[int, int, frozenset[str]]] = []
    for tag in sorted(set(spans)):
        start, end = _whole_words(text, tag)
        kinds = frozenset({tag.kind})
        if joined:
            before, stop, earlier = joined[-1]
            same = ("PERSON" in earlier) == (tag.kind == "PERSON")
            between = _INITIAL if tag.kind == "PERSON" else _BETWEEN
            if start < stop or (same and between.fullmatch(text, stop, start)):
                joined[-1] = before, max(stop, end), earlier | kinds if same else earlier
                continue
        joined.append((start, end, kinds))
    return [
        Finding(start - len(_lead(text, start, type)), end, type)
        for start, end, kinds in joined
        if (type := _type(kinds)) is not None
    ]


def _type(kinds: frozenset[str]) -> str | None:
    if "PERSON" in kinds:
        return "PERSON"
    # A number alone is no address.
    if "STREET_NAME" in kinds or (kinds & _STREETS and len(kinds) > 1):
        return "STREET_ADDRESS"
    if kinds & _PLACES:
        return "GPE"
    return "ZIP_CODE" if kinds == {"ZIP_CODE"} else None


def _lead(text: str, start: int, type: str) -> str:
    match = _BEFORE.search(text[max(0, start - 20) : start]) if type == "STREET_ADDRESS" else None
    return match.group() if match else ""


def _whole_words(text: str, tag: Tag) -> tuple[int, int]:
    start, end = tag.start, tag.end
    while start > 0 and text[start - 1].isalnum() and text[start - 1] < _WORDLESS:
        start -= 1
    while end < len(text) and text[end].isalnum() and text[end] < _WORDLESS:
        end += 1
    return start, end

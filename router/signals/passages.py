"""Passages: all that a model reads in pieces that a head judges one by one, with disguises taken off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from triton_router.dialects.texts import Text
from triton_router.disguises import plain

# Characters of a passage, and how many of them it shares with the one before: no sentence stands across a cut alone.
LENGTH, OVERLAP = 600, 120


class Passage(NamedTuple):
    """A piece of the part of a request at ``where``."""

    text: str
    where: str


def passages(parts: Sequence[Text]) -> Iterator[Passage]:
    """The passages of all ``parts``, the last part first: what is new in a conversation."""
    for text, where in reversed(parts):
        for piece in pieces(text):
            yield Passage(piece, where)


def pieces(text: str) -> Iterator[str]:
    """The passages of one text."""
    text = plain(text)
    for start in range(0, max(len(text) - OVERLAP, 1), LENGTH - OVERLAP):
        if (piece := text[start : start + LENGTH]).strip():
            yield piece

"""Passages: a whole conversation in pieces that a head reads one by one, with disguises taken off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from triton_router.dialects import Turn
from triton_router.disguises import plain

# Characters of a passage, and how many of them it shares with the one before: no sentence stands across a cut alone.
LENGTH, OVERLAP = 600, 120
# So many are read of one conversation, the newest turns first: a head reads some hundred a second on a core.
MOST = 24


class Passage(NamedTuple):
    """A piece of turn ``turn``."""

    text: str
    turn: int


def passages(turns: Sequence[Turn]) -> tuple[list[Passage], bool]:
    """The passages of a conversation, the newest turn first, and whether these are all."""
    pieces: list[Passage] = []
    for number in range(len(turns) - 1, -1, -1):
        for piece in _cut(plain(turns[number].text)):
            if len(pieces) == MOST:
                return pieces, False
            pieces.append(Passage(piece, number))
    return pieces, True


def _cut(text: str) -> Iterator[str]:
    start = 0
    while text[start:].strip():
        yield text[start : start + LENGTH]
        if start + LENGTH >= len(text):
            return
        start += LENGTH - OVERLAP

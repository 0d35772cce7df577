"""Whether a question asks what an earlier one asked.

Equal texts do, vetoes keep others apart, and a head on Triton judges the rest.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Protocol

from triton_router.cache.vetoes import LITERAL, QUOTES, Marks, veto
from triton_router.inference.bundle import Trunk
from triton_router.inference.language import identify

# Of longer texts, only the very same is the same.
LONGEST_PLAIN = 20_000
SURE = 0.5


class PairReader(Protocol):
    """:class:`.inference.Encoder` of a trunk that reads pairs."""

    trunk: Trunk

    async def judge_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]: ...


class PairJudge:
    """Without a ``reader`` only equal texts ask the same; so they do in languages that its trunk does not list."""

    def __init__(self, reader: PairReader | None) -> None:
        self._reader = reader

    async def first_same(self, now: str, earlier: Sequence[str]) -> int | None:
        """The place of the first of the ``earlier`` questions that asks the same as ``now``.

        Raises:
            Unavailable: that hangs on the reader, which did not answer.
        """
        form = plain(now)
        equal = next((place for place, text in enumerate(earlier) if plain(text) == form), None)
        if equal is not None or self._reader is None:
            return equal
        language = identify(now) or ""
        if (listed := self._reader.trunk.languages) and language not in listed:
            return None
        marks = Marks.of(now, language)
        left = [place for place, text in enumerate(earlier) if veto(Marks.of(text, language), marks) is None]
        if not left:
            return None
        judged = await self._reader.judge_pairs([(earlier[place], now) for place in left])
        return next((place for place, same in zip(left, judged, strict=True) if same >= SURE), None)


def plain(text: str) -> str:
    """``text`` but for "I", the capital of a sentence, spacing and the last stop; of code only without the space around
    it.

    Other capitals may be all that tells "US policy" from "us policy", and short words "Mg" from "mg".
    """
    if len(text) > LONGEST_PLAIN:
        return text
    text = unicodedata.normalize("NFC", text).translate(QUOTES).strip()
    if LITERAL.search(text):
        return text
    words = text.split()
    for place, word in enumerate(words):
        begins = (not place or words[place - 1][-1] in ".?!") and len(word) > 2 and word[1:] == word[1:].lower()
        if begins or word.partition("'")[0] == "I":
            words[place] = word.lower()
    return " ".join(words).rstrip(" .?!")

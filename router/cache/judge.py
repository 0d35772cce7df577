"""Whether a question asks what an earlier one asked.

Equal texts do, vetoes keep others apart, and a head on Triton judges the rest.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Protocol

from triton_router.cache.vetoes import LITERAL, QUOTES, SPELT, UNITS, Marks, bare, veto
from triton_router.inference.bundle import Trunk
from triton_router.inference.language import identify

# Of longer texts, only the very same is the same.
LONGEST_PLAIN = 20_000
SURE = 0.5
_WORD = re.compile(r"[^\W\d_]+")
_UNIT = re.compile(r"(?<=\d)[ -]?(?:degrees? |°)?([^\W\d_]+|%)(?![^\W_])")
# Not in "hello world" and "say thanks".
_POLITE = re.compile(
    r",? ?\bplease\b,?|^(?:hi|hello|hey)(?: there)?[,!.]+\s+"
    r"|(?<=[.?!,])\s*(?:many )?thank(?:s| you)(?: in advance)?[.!]*$",
    re.IGNORECASE,
)
_STOP = re.compile(r"(?<=[^\W\d_])[?!.,]+(?=\s|$)")


class PairReader(Protocol):
    """:class:`.inference.Encoder` of a trunk that reads pairs."""

    trunk: Trunk

    async def judge_pairs(self, pairs: Sequence[tuple[str, str]]) -> list[float]: ...


class PairJudge:
    """The first of the ``readers`` whose trunk lists a language judges questions in it.

    Where none does, only equal texts ask the same. So they do in two languages: whoever asks in Chinese wants no
    English answer."""

    def __init__(self, readers: Sequence[PairReader] = ()) -> None:
        self._readers = readers

    async def first_same(self, now: str, earlier: Sequence[str]) -> int | None:
        """The place of the first of the ``earlier`` questions that asks the same as ``now``.

        Raises:
            Unavailable: that hangs on a reader, which did not answer.
        """
        form = plain(now)
        equal = next((place for place, text in enumerate(earlier) if plain(text) == form), None)
        if equal is not None or not self._readers:
            return equal
        language = identify(now) or ""
        choices = (each for each in self._readers if language in (each.trunk.languages or [language]))
        if (reader := next(choices, None)) is None:
            return None
        marks = Marks.of(now, language)
        left = [
            place
            for place, text in enumerate(earlier)
            if veto(Marks.of(text, language), marks) is None and (identify(text) or language) == language
        ]
        if not left:
            return None
        form = loose(now)
        if (equal := next((place for place in left if loose(earlier[place]) == form), None)) is not None:
            return equal
        judged = await reader.judge_pairs([(simple(earlier[place]), simple(now)) for place in left])
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


def simple(text: str) -> str:
    """``text`` as the judge reads it: numbers in digits, units behind them by one name, without "please" and thanks."""
    text = _WORD.sub(_digits, _POLITE.sub("", unicodedata.normalize("NFKC", text).translate(QUOTES)))
    return " ".join(_UNIT.sub(_unit, text).split())


def loose(text: str) -> str:
    """``simple`` without capitals and stops, for texts that no veto keeps apart."""
    return _STOP.sub("", simple(text).casefold())


def _digits(word: re.Match[str]) -> str:
    number = SPELT.get(bare(word[0].lower()), "")
    return number if number.isdigit() else word[0]


def _unit(word: re.Match[str]) -> str:
    unit = UNITS.get(bare(word[1].lower()))
    return f" {unit}" if unit else word[0]

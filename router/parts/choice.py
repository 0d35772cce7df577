"""The person's words in a message without listed marks: the run that the network chooses, as they wrote it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from triton_router.parts.asking import asks
from triton_router.parts.directions import directs
from triton_router.parts.features import observe
from triton_router.parts.network import best_run, network
from triton_router.parts.shapes import ShapeTable, names_speech
from triton_router.parts.units import Unit, cut

# A question that a program repeats has so many characters, and so many stand between; at most so many units stand above
# and below both.
AGAIN, BETWEEN, OPENINGS, ENDINGS = 16, 80, 3, 2
_KEY = re.compile(r"[\"'=\[(,]:?[ \t]*$")
_FORMULA = re.compile(r"(?<!\\)\\[a-z]{3}")
# What belongs together around words.
_PAIRS = dict(zip("“”„«»‹›「『‘’([{<⟦⟨《〈〔", "”“”»«›‹」』’‘)]}>⟧⟩》〉〕", strict=True)) | {
    sign: sign for sign in "\"`'*_~"
}
_PAIRS["„"] = "“”"
_CLOSING = frozenset("".join(_PAIRS.values()))
_QUOTES = frozenset("\"“”„«»‹›「『`'‘’")
_ESCAPED = ("&lt;", "&gt;", "&amp;", "&quot;", "&#")


class Choice(NamedTuple):
    """``text[start:end]`` of a message has the person's words, ``words`` as they wrote them."""

    start: int
    end: int
    words: str


def choose(text: str, shapes: ShapeTable) -> Choice | None:
    """The person's words in ``text``; ``None`` where all of it is theirs."""
    units = cut(text)
    if len(units) < 2:
        return None
    if (again := _asked_again(text, units)) is not None:
        return again
    first, last = best_run(network().scores(observe(text, units, shapes)))
    if last - first + 1 == len(units):
        return None
    return written(text, units[first], units[last])


def _asked_again(text: str, units: Sequence[Unit]) -> Choice | None:
    """The question with which ``text`` ends, if a program has put it above its material, too."""
    for last in range(len(units) - 1, max(1, len(units) - 1 - ENDINGS), -1):
        first, place = last + 1, len(text)
        while first > 1 and 0 <= (found := text.find(text[units[first - 1].start : units[last].end])) < place:
            if found + units[last].end - units[first - 1].start > units[first - 1].opened:
                break
            first, place = first - 1, found
        if first < last and units[first].form == "label" and names_speech(text[units[first].start : units[first].end]):
            first += 1
        if first <= last:
            start, end = units[first].start, units[last].end
            between = start - place - (end - start)
            above = place <= units[min(OPENINGS, last)].start
            asked = asks(text[start:end]) and not directs(text[start:end])
            twice = text.count(text[start:end]) == 2
            if end - start >= AGAIN and between >= BETWEEN and above and asked and twice:
                return written(text, units[first], units[last])
            return None
    return None


def written(text: str, first: Unit, last: Unit) -> Choice:
    """What the person wrote, without what a program made of it to put it into its own text."""
    start, end, quoted = _unquoted(text, first, last)
    words = text[start:end]
    if quoted and "\\" in words and _is_string(text, start, words):
        with suppress(ValueError):
            words = json.loads(f'"{words}"', strict=False)
    if "&" in words and any(sign in words for sign in _ESCAPED):
        words = html.unescape(words)
    if "\n" in words and (sign := text[first.opened : start].strip()):
        head, *lines = words.split("\n")
        if all(line.lstrip().startswith(sign) for line in lines if line.strip()):
            words = "\n".join([head, *(line.lstrip().removeprefix(sign).removeprefix(" ") for line in lines)])
    return Choice(start, end, words.strip())


def _is_string(text: str, start: int, words: str) -> bool:
    """Whether ``words`` are written as a string of JSON, and not as they are between quotation marks."""
    if text[start - 1 : start] != '"' or "\n" in words:
        return False
    return _KEY.search(text, max(0, start - 40), start - 1) is not None or _FORMULA.search(words) is None


def _unquoted(text: str, first: Unit, last: Unit) -> tuple[int, int, bool]:
    """Where the words begin and end, and whether a program quotes them.

    Of the marks around them only the outermost two that belong together are the program's.
    """
    start, end = first.start, last.end
    opened = first.opened
    if first.prefix and first.prefix != "title" and text[opened] not in _QUOTES:
        # Of a line that ends with a tag nothing may stand before the tag.
        opened += len(next(iter(text[opened:start].split(maxsplit=1)), ""))
    opening = [place for place in range(opened, start) if text[place] in _PAIRS]
    closing = [place for place in range(last.closed - 1, end - 1, -1) if text[place] in _CLOSING]
    for number, place in enumerate(opening):
        if (own := next((each for each in closing if text[each] in _PAIRS[text[place]]), None)) is not None:
            inner = opening[number + 1 :]
            after = closing[closing.index(own) + 1 :]
            while inner and after and text[inner[0]] == text[place] and text[after[0]] == text[own]:
                inner, after = inner[1:], after[1:]
            return inner[0] if inner else start, after[0] + 1 if after else end, text[place] in _QUOTES
    while end < last.closed and text[end] in _CLOSING:
        end += 1
    return opening[0] if opening else start, end, False

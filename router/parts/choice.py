"""The person's words in a message without listed marks: the run that the network chooses, as they wrote it."""

from __future__ import annotations

import html
import json
from contextlib import suppress
from typing import NamedTuple

from triton_router.parts.network import best_run, network
from triton_router.parts.shapes import ShapeTable
from triton_router.parts.units import Unit, cut, observe

_OPENING, _CLOSING = frozenset("\"“”„«»‹›「『`'‘’"), frozenset("\"”“»«›‹」』`'’")
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
    first, last = best_run(network().scores(observe(text, units, shapes)))
    if last - first + 1 == len(units):
        return None
    return _written(text, units[first], units[last])


def _written(text: str, first: Unit, last: Unit) -> Choice:
    """What the person wrote, without what a program made of it to put it into its own text."""
    start, end = first.start, last.end
    quoted = not _OPENING.isdisjoint(text[first.opened : start])
    closed = not _CLOSING.isdisjoint(text[end : last.closed])
    if quoted != closed:  # a quotation mark of the person's own
        start, end = (first.opened, end) if quoted else (start, last.closed)
    words = text[start:end]
    if quoted and closed and "\\" in words:
        with suppress(ValueError):
            words = json.loads(f'"{words}"', strict=False)
    if "&" in words and any(sign in words for sign in _ESCAPED):
        words = html.unescape(words)
    if "\n" in words and (sign := text[first.opened : first.start].strip()):
        head, *lines = words.split("\n")
        if all(line.lstrip().startswith(sign) for line in lines if line.strip()):
            words = "\n".join([head, *(line.lstrip().removeprefix(sign).removeprefix(" ") for line in lines)])
    return Choice(start, end, words.strip())

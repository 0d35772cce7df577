"""Blocks in tags: `<name>...</name>` or `[name]...[/name]`, listed ones and those of any name."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import zip_longest
from typing import NamedTuple

from triton_router.dialects.request import names
from triton_router.parts.part import Part
from triton_router.parts.shapes import ShapeTable, name_of, names_text, reading_by_name

# Tags are read inside of tags so many times.
DEEPEST = 3
_BRACKET = re.compile(r"[<\[](/?)([A-Za-z_][\w.:-]{0,63})(?:[\s=][^<>\[\]]{0,400})?(?<!/)[>\]]")
_TAG = re.compile(r"<(/?)([A-Za-z_][\w.:-]{0,63})(?:\s[^<>]{0,400})?(?<!/)>")
_HTML = names(
    """a abbr address article aside audio b base blockquote body br button canvas caption center cite code col colgroup
    dd del details div dl dt em embed fieldset figcaption figure font footer form frame h1 h2 h3 h4 h5 h6 head header hr
    html i iframe img input ins kbd label legend li link main map mark meta nav noscript object ol option p param path
    picture pre q s samp script section select small span strike strong style sub summary sup svg table tbody td
    template textarea tfoot th thead time title tr tt u ul var video"""
)


class _Element(NamedTuple):
    """A block in tags: where it and its content begin and end.

    ``marked`` says that tags in it mark words, ``record`` that it has tags in it: a customer's record, not their words.
    """

    start: int
    end: int
    inner: tuple[int, int]
    name: str
    marked: bool
    record: bool


def elements(text: str, shapes: ShapeTable, depth: int = 0, *, listed_only: bool = False) -> Iterator[Part]:
    """``text`` outside of tags as words, and each outermost block in tags, whether these are listed or not."""
    at = 0
    for element in _outermost(text, shapes, listed_only) if _has_ends(text) else ():
        if text[at : element.start].strip():
            yield Part("words", text[at : element.start])
        at = element.end
        inner = text[slice(*element.inner)].strip()
        # An empty element hides nothing: where there is no more, the message itself is the words.
        yield from _content(element, inner, shapes, depth) if inner else ()
    if text[at:].strip():
        yield Part("words", text[at:])


def _content(element: _Element, inner: str, shapes: ShapeTable, depth: int) -> Iterable[Part]:
    shape = shapes.tags.get(name_of(element.name))
    reason = f"tag {element.name}"
    unlisted = "context" if element.record else reading_by_name(element.name) or "context"
    whole = [Part(shape.reading if shape else unlisted, inner, reason)]
    nested = _has_ends(inner)
    if depth == DEEPEST or not (element.marked or shape) or not nested or (shape and shape.reading != "words"):
        return whole
    parts = [part._replace(reason=part.reason or reason) for part in elements(inner, shapes, depth + 1)]
    if shape is not None:
        # A client also puts its own blocks between the person's words, or a record around them.
        if not any(part.kind == "words" and part.reason != reason and names_text(part.reason[4:]) for part in parts):
            return parts
    # A wrapper of no known name is the program's, but for what is marked as the person's in it.
    elif not any(part.kind == "words" and part.reason != reason for part in parts):
        return whole
    return [part._replace(kind="context") if part.reason == reason else part for part in parts]


def _has_ends(text: str) -> bool:
    """Whether ``text`` has what ends a block in tags."""
    return ("<" in text and "</" in text) or ("[" in text and "[/" in text)


def _outermost(text: str, shapes: ShapeTable, listed_only: bool) -> list[_Element]:
    opened: list[tuple[str, int, int]] = []
    counts: dict[str, int] = {}
    elements: list[_Element] = []
    folded: dict[str, str] = {}
    words = -1
    for match in _outside_fences(_BRACKET if "[/" in text else _TAG, text):
        closing, written = match.groups()
        start, end = match.span()
        name = folded.get(written) or folded.setdefault(written, name_of(written))
        if not closing:
            if name in shapes.tags or (not listed_only and name not in _HTML and _begins_a_line(text, start)):
                opened.append((name, start, end))
                counts[name] = counts.get(name, 0) + 1
        elif counts.get(name):
            inner = ""
            while inner != name:  # those in it that nobody closed go with it
                inner, begin, body = opened.pop()
                counts[inner] -= 1
            record = bool(elements) and elements[-1].start > begin
            while elements and elements[-1].start > begin:
                elements.pop()
            elements.append(_Element(begin, end, (body, start), written, words > begin, record))
            shape = shapes.tags.get(name)
            if (shape.reading if shape else reading_by_name(written)) == "words" and (shape or not record):
                words = begin
    return elements


def _outside_fences(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    fences = _fences(text)
    at = 0
    while match := pattern.search(text, at):
        start, at = match.span()
        while fences and fences[0][1] < start:
            fences.popleft()
        if fences and fences[0][0] <= start:
            at = fences[0][1]
        else:
            yield match


def _begins_a_line(text: str, start: int) -> bool:
    before = text[max(0, start - 16) : start].rstrip(" \t")
    return (not before and start <= 16) or before.endswith(("\n", ">", ":"))


def _fences(text: str) -> deque[tuple[int, int]]:
    """Where fenced code begins and ends; a fence that nobody closed ends with the text."""
    if "```" not in text:
        return deque()
    marks = [match.start() for match in re.finditer(r"^[ \t]{0,3}```", text, re.MULTILINE)]
    return deque(zip_longest(marks[::2], marks[1::2], fillvalue=len(text)))

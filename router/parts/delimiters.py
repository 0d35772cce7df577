"""Text between two lines that directions name: "The text between <<< and >>> is a visitor's question."."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from triton_router.parts.asking import asks
from triton_router.parts.part import Kind

# The directions stand so near to an end of the text, and name no more marks than this.
NEAR, MOST = 1_000, 8
# Any of these stands in such directions; looking for them one by one is cheaper than for a pattern.
_NAMING = ("between", "Between", "delimited", "enclosed", "surrounded", "inside", "within", "wrapped", "zwischen",
           "entre", "之间", "之間", "包围", "括起")  # fmt: skip
_BETWEEN = re.compile(
    r"\b(?:between|delimited|enclosed|surrounded|inside|within|wrapped|zwischen|entre)\b|之间|之間|包围|括起",
    re.IGNORECASE,
)
_ALONE = re.compile(r"\n[ \t]*+(\S{2,40}+)[ \t]*+(?=\n|\Z)")
_PERSONS = re.compile(
    r"\b(?:user|visitor|customer|client|caller|guest|human|person|question|message|query|queries|request|input|prompt"
    r"|typed|asked|untrusted|benutzer|nutzer|kunde|frage|nachricht|usuario|cliente|pregunta|mensaje|utilisateur|demande"
    r"|utente|domanda)(?:s|n|'s)?\b|用户|用戶|问题|問題|输入|輸入|提问",
    re.IGNORECASE,
)
_PROGRAMS = re.compile(
    r"\b(?:context|document|article|transcript|e-?mail|notes?|material|source|reference|passage|page|kontext|dokument"
    r"|contexto|documento|contexte)s?\b|文档|资料|上下文",
    re.IGNORECASE,
)
_MIRRORED = str.maketrans("<[{(", ">]})")


class Delimited(NamedTuple):
    """What stands between two lines of ``mark``, and where."""

    kind: Kind
    start: int
    end: int
    mark: str


def delimited(text: str) -> Delimited | None:
    """The text between marks that directions in ``text`` name; ``None`` where none do."""
    lines = f"\n{text}"
    # Most texts have no mark on a line of its own, which is cheaper to see than that no line names one.
    if not _ALONE.search(lines):
        return None
    marks: list[re.Match[str]] = []
    for line, place in _directions(text):
        marks = marks or list(_ALONE.finditer(lines))
        for number, mark in enumerate(marks[:MOST]):
            opening = mark[1]
            if opening.isalpha() or opening not in line:
                continue
            last = next((each for each in reversed(marks[number + 1 :]) if _closes(each[1], opening)), None)
            if last is not None and lines[mark.end() : last.start()].strip():
                outside = f"{lines[: mark.start()]}\n{lines[last.end() :]}"
                return Delimited(_kind(line, place, outside), mark.end() - 1, last.start(), opening)
    return None


def _directions(text: str) -> Iterator[tuple[str, int]]:
    """The lines near both ends of ``text`` that speak of what stands between marks, and where in them they do."""
    for end in (text,) if len(text) <= 2 * NEAR else (text[:NEAR], text[-NEAR:]):
        if any(word in end for word in _NAMING) and (match := _BETWEEN.search(end)):
            start = end.rfind("\n", 0, match.start()) + 1
            stop = end.find("\n", match.end())
            yield end[start : stop if stop >= 0 else len(end)], match.start() - start


def _closes(mark: str, opening: str) -> bool:
    return mark in (
        opening,
        opening.translate(_MIRRORED),
        opening.replace("<", "</", 1),
        opening.replace("BEGIN", "END").replace("START", "END"),
    )


def _kind(line: str, place: int, outside: str) -> Kind:
    """Whose text the marks hold, by the words next to what names them; by what else asks, if these do not say it."""
    before, behind = line[max(0, place - 40) : place], line[place:]
    for piece in (before, behind):
        person, program = _PERSONS.search(piece), _PROGRAMS.search(piece)
        if bool(person) != bool(program):
            return "words" if person else "context"
    return "context" if any(asks(each) for each in outside.split("\n") if each not in line) else "words"

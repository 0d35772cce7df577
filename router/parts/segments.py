"""Segments: a message without marks in pieces of one kind each, and what is seen of them at a glance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from math import log
from typing import Literal, NamedTuple

from triton_router.parts.asking import asks, begins_asking
from triton_router.parts.shapes import reading_by_name

Form = Literal["prose", "code", "pair", "label", "heading", "bracket", ""]
"""How lines look: `pair` is a short `key: value`, `label` a name with a sentence behind it; a rule is no line."""

# So many segments at each end of a message are looked at one by one; those between are one.
EDGE = 8
# How much of a segment is looked at.
HEAD = 240
_KEY = re.compile(r"[ \t>*_#-]{0,6}([^\W\d_][\w '\u2019./@-]{0,38}?)\**(?:\s?[:：]\**(?:[ \t]+|$)|=(?=\S))")
_CODE = re.compile(
    r"(?:import|from|def|class|export|const|let|var|return|public|package|func|#include)\b[^.?!]*[({;:\w]$"
)
_RULE = re.compile(r"(?:-{3,}|={3,}|\*{3,}|_{3,})$")
_WORD = re.compile(r"[^\W\d_]+")
_DIRECTING = re.compile(
    r"\b(?:the (?:user|customer|assistant)(?:'s)?|users|assistant|you (?:are (?:an?|the)|have access|can (?:call|use)"
    r"|must|only)|do not|don't|never|always|markdown|json|concise(?:ly)?|briefly|cite|invent|respond|reply"
    r"|your (?:answer|response|reply))\b",
    re.IGNORECASE,
)
_PROGRAMS = re.compile(
    r"\b(?:attach\w*|upload\w*|files?|messages?|received|sent|transcri\w+|forward\w*|via|session|tickets?|channel|sender"
    r"|user|customer|client|context|notes?|system|metadata|profile|memor\w+|assistant|tools?|workspace|history|reply"
    r"|document\w*|sources?|results?|app|bot|voice|audio|image|photo|pasted|selected|open|status|instructions?"
    r"|guidelines?|role|output)\b",
    re.IGNORECASE,
)
_POLITE = re.compile(
    r"(?:hi|hello|hey|dear|good (?:morning|afternoon|day|evening)|hallo|guten tag|bonjour|hola|ciao|(?:many )?thanks"
    r"|thank you|(?:best|kind|warm)\b.{0,12}(?:regards|wishes)|regards|cheers|sincerely|yours|sent from|viele grüße"
    r"|mit freundlichen|cordialement|saludos|gesendet von|envoyé de)\b",
    re.IGNORECASE,
)
_ORDER = re.compile(
    r"[.,;:)]\s+(?:and |then |please )?(?:what|how|which|why|calculate|compute|find|determine|estimate|derive|solve"
    r"|prove|show|explain|describe|write|list|give|tell me|evaluate|compare|discuss|sketch|translate|summari[sz]e)\b",
    re.IGNORECASE,
)
_SELF = re.compile(r"\b(?:I|I'm|I've|my|me|we|our)\b")


class Segment(NamedTuple):
    """``part`` is the number of the part that it is cut from; ``start`` and ``end`` are places in it."""

    part: int
    start: int
    end: int
    form: Form
    text: str


def form(line: str) -> Form:
    """How a line that is not empty looks."""
    text = line.strip()
    first, last = text[0], text[-1]
    if first == "#" and text[1:2] in ("#", " "):
        return "heading"
    if first in "[({<=*-~" and len(text) < 90 and last in "])}>=*-~":
        return "" if _RULE.match(text) else "bracket"
    if (match := _KEY.match(line)) and match.end() <= 44 and not begins_asking(match[1]):
        value = line[match.end() :].strip()
        if not value:
            return "heading"
        return "label" if len(value) > 60 or asks(value) else "pair"
    if last in ":：" and len(text) < 60 and not asks(text):
        return "heading"
    if last in "{};" or line[:2] == "  " or line[0] == "\t" or first in "$>+\\/|@<{}])" or _CODE.match(line):
        return "prose" if last in ".?!" and line[0] > " " else "code"
    return "prose"


def cut(text: str, part: int = 0) -> list[Segment]:
    """``text`` in segments: paragraphs, and what stands out at their ends."""
    segments: list[Segment] = []
    place = 0
    for empty, group in groupby(text.split("\n"), key=lambda line: not line or line.isspace()):
        lines = list(group)
        if empty:
            place += sum(map(len, lines)) + len(lines)
            continue
        forms = [form(line) for line in lines]
        if len(lines) > 2 and forms.count("code") * 3 >= len(lines):
            forms = ["code" if kind else "" for kind in forms]
        start = place
        for number, (line, kind) in enumerate(zip(lines, forms, strict=True)):
            end = place + len(line)
            place = end + 1
            after = forms[number + 1] if number + 1 < len(forms) else None
            if after == kind and kind in ("prose", "code", "pair"):
                continue
            if kind:
                segments.append(Segment(part, start, end, kind, text[start:end].strip()))
            start = place
    return segments


FEATURES = (
    "bias", "question", "order", "order first", "directions", "of programs", "polite", "first person", "last",
    "order inside", "unfinished", "length", "share", "pair", "label", "heading", "bracket", "code", "list", "prose",
    "colon at the end", "stop", "names a person", "asked before", "asked after", "small letter", "question inside",
    "fragment", "short at the end",
)  # fmt: skip


def features(segments: Sequence[Segment]) -> Iterator[tuple[float, ...]]:
    """What is seen of each of a message's segments, as ``FEATURES`` names it."""
    last = len(segments) - 1
    total = sum(len(each.text) for each in segments)
    asking = [asks(each.text) for each in segments]
    first_asking = asking.index(True) if True in asking else last + 1
    last_asking = last - asking[::-1].index(True) if True in asking else -1
    for number, (_, _, _, form, text) in enumerate(segments):
        size, end, head = len(text), text[-1], text[:HEAD]
        label = _KEY.match(text) if form != "prose" else None
        name = text if form == "heading" else label[1] if label else ""
        reading = reading_by_name(name) if name else None
        question = end in "?？"
        order = not question and begins_asking(text[label.end() :] if label else text)
        inner = text.find("? ")
        before = first_asking < number
        small = sum(len(word) for word in _WORD.findall(head) if word.islower() or not word.isascii())
        yield (
            1.0,
            question,
            order,
            order and number == 0,
            min(2, len(_DIRECTING.findall(head))),
            min(2, len(_PROGRAMS.findall(head[:120]))),
            size < 60 and _POLITE.match(text) is not None,
            _SELF.search(head) is not None,
            number == last,
            _ORDER.search(text) is not None,
            size > 24 and end.isalpha() and end.islower() and form == "prose" and not order,
            min(log(size), 7) / 7,
            size / total,
            form == "pair",
            form == "label",
            form == "heading",
            form == "bracket",
            form == "code",
            text[0] in "-*•+0123456789",
            small / len(head),
            end in ":：",
            end in ".!。",
            reading == "words",
            before,
            last_asking > number,
            text[0].islower(),
            inner > 0 and text[inner - 1].isalnum(),
            size < 30 and not asking[number],
            before and number == last and size < 60,
        )

"""Segments: a message without marks in pieces of one kind each, and what is seen of them at a glance."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import log
from typing import Literal, NamedTuple

from triton_router.dialects.request import names
from triton_router.parts.asking import ASKING, ORDERS, asks, asks_clearly, begins_asking, begins_delegating
from triton_router.parts.shapes import reading_by_name

Form = Literal["prose", "code", "pair", "label", "heading", "bracket", ""]
"""How lines look: `pair` is a short `key: value`, `label` a name with a sentence behind it; a rule is no line.

A line with a label is two segments: a heading, and prose.
"""

# So many segments at each end of a message are looked at one by one; of those between the first stands for all.
EDGE = 3
# So many lines at each end of a paragraph are; of those between the first stands for all.
NEAR = 16
# How much of a segment is looked at for its words, and for orders in it.
HEAD, LONG = 160, 600
# Orders to reply to somebody else are shorter.
SHORT = 300
_KEY = re.compile(r"[ \t>*_#-]{0,6}([^\W\d_][\w '\u2019./@()&-]{0,38}?)\**(?:\s?[:：]\**(?:[ \t]+|$)|=(?=\S))")
# Whom a line is for, or where and when it was said.
_ADDRESS = re.compile(r"(<?@[\w.-]{2,40}>?[,:]?|\[[^\[\]\n]{2,40}\]:?)[ \t]+(?=\S)")
_CODE = re.compile(
    r"(?:import|from|def|class|export|const|let|var|return|public|package|func|#include)\b[^.?!]*[({;:\w]$"
)
# The digit first: the engine looks for one at its own speed.
_MOMENT = re.compile(r"\d(?<!\w\d)(?:\d?:\d\d|\d{3}-\d\d-\d\d)\b")
# "Comment" asks in French.
_BYLINE = re.compile(r"[A-Z][a-z]+ (?:by|from) [A-Z]")
_RULE = re.compile(r"([-=*~_─━═])\1{2,}$")
_DIRECTING = names(
    """user user's users customer customer's assistant must only never always don't markdown json concise concisely
    briefly cite invent respond reply avoid response answer mention include exceed style tone formal guess quote repeat
    escalate sign polite politely friendly spelling inline"""
)
# Begin an order about how to speak, not what to speak about.
_CONDUCTING = names(
    """never always do don't be keep use avoid only must respond reply answer sign stay remember ensure refuse escalate
    limit mark cite mention return output end begin finish no speak treat follow antworte bitte responde réponds sois"""
)
_OF_PROGRAMS = names(
    """attached attachment attachments upload uploaded file files message messages received sent transcribed
    transcript transcription forwarded via session ticket tickets channel sender user customer client context
    note notes system metadata profile memory memories assistant tool tools workspace history reply document
    documents source sources result results app bot voice audio image photo pasted selected open status
    instructions guidelines role output page url title slide sheet lesson learner course case comments thread selection
    excerpt items shared clipboard directory folder repository branch commit version device locale language timezone
    submitted edited posted updated assigned priority summaries index menu section cell row form field"""
)
_POLITE = names(
    """hi hello hey dear hallo guten bonjour hola ciao thanks thank regards best kind warm cheers sincerely yours
    sent viele mit cordialement saludos gesendet envoyé"""
)
_SELF = names("i i'm i've my me")
_TELLING = _DIRECTING | _OF_PROGRAMS | _SELF
_ORDER = (
    "calculate|compute|find|determine|estimate|derive|solve|prove|show|explain|describe|write|list|give|tell|evaluate"
    "|compare|discuss|sketch|translate|summari[sz]e"
)
# Where a sentence within a text begins with an order or a question; behind a comma only an order does. One pattern for
# each mark: the engine looks for a literal at its own speed.
_BEHIND_STOP = re.compile(rf"\. (?:{_ORDER}|what|how|which|why)(?= |\. |\Z)")
_BEHIND_COMMA = re.compile(rf", (?:{_ORDER})(?= |, |\Z)")
# What words are told apart by, and what prose consists of.
_MARKS = b'.,;:!?()[]{}<>/\\|"*#=+`~@$%^&'
_SPACED = bytes.maketrans(_MARKS, b" " * len(_MARKS))
_PROSE = b" abcdefghijklmnopqrstuvwxyz"


class Segment(NamedTuple):
    """``part`` is the number of the part that it is cut from; ``start`` and ``end`` are places in it."""

    part: int
    start: int
    end: int
    form: Form
    text: str


def form(line: str) -> Form:
    """How a line looks."""
    text = line.strip()
    if not text:
        return ""
    first, last = text[0], text[-1]
    if first in "<@[" and (match := _ADDRESS.match(text)) and form(text[match.end() :]) in ("prose", "label"):
        return "label"
    if first == "#" and text[1:2] in ("#", " "):
        return "heading"
    if first in "[({<=*-~_─━═" and len(text) < 90 and last in "])}>=*-~_─━═":
        return "" if _RULE.match(text) else "bracket"
    if len(text) < 90 and last not in ".?!" and _MOMENT.search(text):
        return "bracket"
    start = line[:46]
    match = _KEY.match(line) if ":" in start or "=" in start or "：" in start else None
    if match and match.end() <= 44 and not (" " in match[1] and begins_asking(match[1])):
        value = line[match.end() :].strip()
        if not value:
            return "heading"
        return "label" if len(value) > 60 or asks(value) else "pair"
    if last in ":：" and len(text) < 80 and (not asks(text) or _BYLINE.match(text)):
        return "heading"
    if last in ".?!" and line[0] > " ":
        return "prose"
    if (
        last in "{};"
        or "   " in text
        or first in "$>+\\/|@<{}])│├└⋮"
        or line[0] == "\t"
        or line[:2] == "  "
        or _CODE.match(line)
    ):
        return "code"
    return "prose"


def cut(text: str, part: int = 0) -> list[Segment]:
    """``text`` in segments: paragraphs, and what stands out at their ends. Far from its ends paragraphs stay whole."""
    segments: list[Segment] = []
    paragraphs = text.split("\n\n")
    place, far = 0, len(paragraphs) - EDGE - 1
    for number, paragraph in enumerate(paragraphs):
        if "\n" in paragraph and not EDGE < number < far:
            segments += _lines(paragraph, place, part)
        elif (inner := paragraph.strip()) and (kind := "prose" if EDGE < number < far else form(inner)):
            segments += _segments(paragraph, place, part, kind)
        place += len(paragraph) + 2
    return segments


def _lines(paragraph: str, place: int, part: int) -> Iterator[Segment]:
    """A paragraph at ``place``: lines of one form go together, and where many are code all do."""
    lines = paragraph.split("\n")
    if len(lines) > 2 * NEAR:
        lines[NEAR:-NEAR] = ["\n".join(lines[NEAR:-NEAR])]
    forms: list[Form] = [form(line.partition("\n")[0]) for line in lines]
    if len(lines) > 2 and forms.count("code") * 3 >= len(lines):
        forms = ["code" if kind else "" for kind in forms]
    base = start = place
    for number, (line, kind) in enumerate(zip(lines, forms, strict=True)):
        end = place + len(line)
        place = end + 1
        after = forms[number + 1] if number + 1 < len(forms) else None
        if after == kind and kind in ("prose", "code", "pair"):
            continue
        if kind:
            yield from _segments(paragraph[start - base : end - base], start, part, kind)
        start = place


def _segments(text: str, start: int, part: int, kind: Form) -> Iterator[Segment]:
    if kind == "label" and (match := _ADDRESS.match(text) or _KEY.match(text)):
        yield Segment(part, start, start + match.end(), "heading", match[0].strip())
        yield Segment(part, start + match.end(), start + len(text), "prose", text[match.end() :].strip())
    else:
        yield Segment(part, start, start + len(text), kind, text.strip())


FEATURES = (
    "bias", "question", "question first", "order", "order first", "begins as a question", "first", "directions",
    "of programs", "conduct", "polite", "first person", "last", "order inside", "unfinished", "unfinished first",
    "length", "share", "pair", "heading", "bracket", "code", "list", "prose", "order with a colon",
    "colon at the end", "stop", "behind a heading", "behind a person's name", "behind a program's name",
    "clearer elsewhere", "as clear before", "as clear after", "apart from what asks before",
    "apart from what asks after", "small letter", "question inside", "fragment", "short at the end",
    "reply to another",
)  # fmt: skip
# What a program puts between its own text and a person's.
_BETWEEN = frozenset({"pair", "heading", "bracket", "code"})


def features(segments: Sequence[Segment]) -> Iterator[tuple[float, ...]]:
    """What is seen of each of a message's segments, as ``FEATURES`` names it."""
    last = len(segments) - 1
    total = sum(len(each.text) for each in segments)
    words = [_words(each.text) for each in segments]
    clear = [_clear(each, own, number) for number, (each, own) in enumerate(zip(segments, words, strict=True))]
    most = max(clear)
    first_asking = clear.index(most) if most else last + 1
    last_asking = last - clear[::-1].index(most) if most else -1
    between = [number for number, each in enumerate(segments) if each.form in _BETWEEN and clear[number] < most]
    lead: Form | str = ""
    reading = None
    for number, (_, _, _, form, text) in enumerate(segments):
        size, end, head = len(text), text[-1], text[:HEAD]
        own = words[number]
        word = own[0] if own else ""
        vocabulary = _TELLING.intersection(own)
        level = clear[number]
        inner = text.find("? ") if "?" in text else -1
        before, after = first_asking < number, last_asking > number
        unfinished = size > 24 and end.isalpha() and end.islower() and form == "prose" and not level
        colon = end in ":："
        yield (
            1.0,
            level == QUESTION,
            level == QUESTION and number == 0,
            level == ORDER,
            level == ORDER and number == 0,
            level == BEGINS,
            number == 0,
            min(2, len(vocabulary & _DIRECTING)),
            min(2, len(vocabulary & _OF_PROGRAMS)),
            word in _CONDUCTING,
            size < 60 and word in _POLITE,
            not vocabulary.isdisjoint(_SELF),
            number == last,
            _orders_inside(text[:LONG].casefold()),
            unfinished,
            unfinished and number == 0,
            min(log(size), 7) / 7,
            size / total,
            form == "pair",
            form == "heading",
            form == "bracket",
            form == "code",
            text[0] in "-*•+0123456789" or ("\n" in text and ("\n- " in text or "\n* " in text)),
            1 - len(head.encode("ascii", "ignore").translate(None, _PROSE)) / len(head),
            colon and level > 0,
            colon and not level,
            end in ".!。",
            lead == "heading",
            reading == "words",
            reading == "context",
            level < most,
            before and level == most,
            after and level == most,
            before and any(first_asking < each < number for each in between),
            after and any(number < each < last_asking for each in between),
            text[0].islower(),
            inner > 0 and text[inner - 1].isalnum(),
            size < 30 and not level,
            before and number == last and size < 60,
            size < SHORT and begins_delegating(text),
        )
        lead = form
        reading = reading_by_name(text.strip(":：# *")) if form == "heading" else None


# Items of a numbered list.
_ITEMS = re.compile(r"(?:\A|\n)\d{1,2}[.)] ")
# How clearly a segment asks for something.
QUESTION, ORDER, BEGINS = 3, 2, 1


def _clear(segment: Segment, words: Sequence[str], number: int) -> int:
    if segment.form in ("heading", "code") or (segment.text[0].isdecimal() and len(_ITEMS.findall(segment.text)) > 2):
        return 0  # a sheet of questions has them for others
    if asks_clearly(segment.text):
        return QUESTION
    word = words[0] if words else ""
    if word in ORDERS:
        return ORDER
    # "How to ..." is a title behind the person's words.
    return BEGINS if word in ASKING and (not number or words[1:2] != ["to"]) else 0


def _orders_inside(text: str) -> bool:
    return bool(_BEHIND_STOP.search(text) or _BEHIND_COMMA.search(text))


def _words(text: str) -> list[str]:
    return text[:HEAD].casefold().encode("utf-8", "replace").translate(_SPACED).decode().split()

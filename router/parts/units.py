"""Units: a message in lines and pieces of lines, and what is seen of each at a glance.

A line is cut at a label in front of its text, at tags, quotation marks and bars, and between its first and last
sentences. Whatever a program puts around a person's words so is a unit of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

from triton_router.dialects.request import names
from triton_router.parts.asking import ASKING, ORDERS
from triton_router.parts.shapes import ShapeTable, name_of, reading_by_name

Form = Literal["text", "label", "tag", "rule", "fence", "bulk"]

# So many lines at each end of a message are cut; of those between each paragraph is one unit.
NEAR = 24
# Of so many lines in a row that begin alike, those within so many of the first and the last are one unit.
LONG_RUN, RUN_ENDS = 12, 4
_SIGNS = {sign: sign for sign in "-*•|+[<{}$>/"} | dict.fromkeys("0123456789", "0") | dict.fromkeys(" \t", " ")
# Of a longer line only so much at each end is cut.
LONGEST_LINE = 3_000
# A longer piece is cut only so near to its ends.
SENTENCES = 600
# So many units at each end count; those between are one.
MOST = 40
# The words of a unit are read so near to its ends.
HEAD, TAIL = 80, 40

_RULE = re.compile(r"[^\w\s]?([^\w\s]|_|ー)(?:[ \t]*\1){2,}[^\w\s]?$")
# A name between rules, or behind one: `=== Message ===`, `## Question`, `■ Frage`.
_TITLE = re.compile(r"(?:[=~*_<>\[{(|+-]{2,}|#{1,6}[ \t]|[■□◆◇▼▶●▪§])[ \t]*(?=[^\W_][^\n]{0,70}$)")
_PREFIX = re.compile(
    r"(?:(?P<quote>>[> ]*)|(?P<hash>#{1,6}(?=[ \t])|//|--(?=[ \t]))|(?P<bullet>[-*+•●▪·–—](?=[ \t])|\[[ xX]\](?=[ \t]))"
    r"|(?P<number>\(?(?:\d{1,2}|[A-Za-z])[.)](?=[ \t]))|(?P<name>@[\w.-]{2,30}[:,]?(?=[ \t]))"
    r"|(?P<sign>[$%❯➜►▶➤»](?=[ \t])|/\w{2,12}(?=[ \t])))[ \t]*(?=\S)"
)
# Between brackets, quotation marks or stars, or bare: what a line begins with up to its colon.
_LABEL = re.compile(
    r"[\"'*_\[(<【「{,]{0,4}[ \t]*[^\W_][^.?!;:：。？！\n\"{}<>|=]{0,90}(?:\d?\d:\d\d[^.?!;:：。？！\n\"{}<>|=]{0,30})?"
    r"[\"'*_\])>】」]{0,4}[ \t]?[:：][*_]{0,2}(?=\s|$|[\"“„«「'`\[{(]|[^\x00-\x7f]|(?<=：))"
)
_PROMPT = re.compile(r"(?:[\w:.@-]{1,30}>|@[\w.-]{2,30}[:,]?|[ur]/\w{2,30}[:,]?)[ \t]+(?=\S)")
_STAMP = re.compile(
    r"(?:\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?Z?[:,]?(?: -)?|\d\d?:\d\d(?::\d\d)?|\[[^\[\]\n]{2,400}\](?!\()"
    r"|\([^()\n]{2,40}\)|<[@#]?[\w .|-]{2,40}>)[:：]?[ \t]+(?=\S)"
)
_MARK = re.compile(
    r"(?P<tag></?[A-Za-z_!?|$@/][^<>\n]{0,200}>|\[/?[A-Z][A-Z_ ]{1,30}\](?!\()|\{\{[^{}\n]{1,60}\}\}"
    r"|\[\[[^\[\]\n]{1,60}\]\]|【[^】\n]{1,40}】)"
    r"|(?P<key>\"[\w .$@/-]{1,40}\"[ \t]*:[ \t]*|\b[\w.-]{2,30}=(?=\"))"
    r"|(?P<quote>\"(?:[^\"\\\n]|\\.)*\"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|「[^」\n]*」)"
    r"|(?P<name>\b[\w.-]{1,30}[ \t]?=[ \t]?(?=[^\W_]))"
    r"|(?P<bar>[ \t]*\|(?:[ \t]*|$)|\t+|(?<=\S) {2,}(?=\S)|[ \t]+(?:[·•»▸▶►→❯➜]|[-=>]?>|::)[ \t]+)"
)
_MARKS = re.compile(r"[<\[{\"“„«「|\t·•【»▸▶►→❯➜]|\S  |=|> |:: ")
_SOMETHING = re.compile(r"[^\W_]")
# A shorter quotation is a word of its line.
QUOTED = 8
_SENTENCE = re.compile(r"(?<=[.!?:])[\"'”)\]]?\s+(?=\S)|(?<=[。！？])\s*(?=\S)")
_OPENING = re.compile(r"[\[{(,; ]*[\"“”„«»‹›「『`'‘’]+")
_CLOSING = re.compile(r"[\"”“»«›‹」』`'’]+[,;\]}) ]*$")
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NAME = re.compile(r"[^\W\d_][^\n:：<>\[\]{}=\"]{0,60}")
_CLASSES_OF_SIGNS = str.maketrans(
    {
        **dict.fromkeys(map(chr, range(48, 58)), "0"),
        **dict.fromkeys(map(chr, range(65, 91)), "A"),
        **dict.fromkeys(map(chr, range(97, 123)), "a"),
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\n": " ",
    }
)
_RUNS = tuple((sign * length, sign) for sign in "a0A " for length in (4, 2, 2))
_CLASSES = (
    ("order", ORDERS),
    ("asking", ASKING - ORDERS),
    (
        "conduct",
        names(
            """never always do don't be keep use avoid only must respond reply answer sign stay remember ensure refuse
            escalate limit mark cite mention return output end begin finish no speak treat follow antworte bitte
            responde réponds sois"""
        ),
    ),
    ("polite", names("hi hello hey dear hallo guten bonjour hola ciao thanks thank regards best kind warm cheers")),
    ("self", names("i i'm i've i'd my we our me ich mein je mon yo mi я io")),
)
_CLASS_OF = {word: name for name, words in reversed(_CLASSES) for word in words}


class Unit(NamedTuple):
    """``text[start:end]`` of a message. ``before`` says what stands between it and the unit before.

    ``opened`` and ``closed``: where it begins and ends with its prefix and quotation marks, which belong to no unit.
    """

    start: int
    end: int
    form: Form
    before: str
    prefix: str
    opened: int
    closed: int


def cut(text: str) -> list[Unit]:
    """``text`` in units."""
    units: list[Unit] = []
    lines = text.split("\n")
    place, blank, fenced, bulk = 0, "start", False, -1
    for line, hidden in zip(lines, _hidden(lines), strict=True):
        start = place
        place += len(line) + 1
        inner = line.strip()
        fence = inner.startswith(("```", "~~~"))
        if inner and (hidden or fenced) and not fence:
            bulk = start if bulk < 0 else bulk
            continue
        if bulk >= 0:
            units.append(_bulk(text, bulk, start))
            blank, bulk = "line", -1
        if not inner:
            blank = "blank" if units else "start"
            continue
        begin = start + len(line) - len(line.lstrip())
        end = begin + len(inner)
        if fence:
            fenced = not fenced
            units.append(Unit(begin, end, "fence", blank, "", begin, end))
        elif len(inner) < 100 and _RULE.match(inner):
            units.append(Unit(begin, end, "rule", blank, "", begin, end))
        elif len(inner) < 80 and inner[-1] not in ".?!,;" and not inner[0].isalnum() and (sign := _TITLE.match(inner)):
            units.append(Unit(begin + sign.end(), end, "label", blank, "title", begin, end))
        elif len(inner) < 80 and inner[0] == "[" and inner[-1] == "]" and "](" not in inner:
            units.append(Unit(begin + 1, end - 1, "label", blank, "title", begin, end))
        else:
            _line(text, begin, end, blank, units)
        blank = "line"
    if bulk >= 0:
        units.append(_bulk(text, bulk, len(text)))
    if len(units) > 2 * MOST + 1:
        middle = units[MOST]._replace(end=units[-MOST - 1].end, closed=units[-MOST - 1].closed, form="bulk")
        units[MOST:-MOST] = [middle]
    return units


def _hidden(lines: Sequence[str]) -> list[bool]:
    """Which lines are not cut: those far from both ends, and those within a long list, table, log or piece of code."""
    count = len(lines)
    hidden = [NEAR <= number < count - NEAR for number in range(count)]
    if count > LONG_RUN:
        start = 0
        for sign, run in groupby([_SIGNS.get(line[:1], "") for line in lines]):
            length = sum(1 for _ in run)
            if sign and length > LONG_RUN:
                hidden[start + RUN_ENDS : start + length - RUN_ENDS] = [True] * (length - 2 * RUN_ENDS)
            start += length
    return hidden


def _bulk(text: str, start: int, end: int) -> Unit:
    inner = text[start:end].strip()
    start = text.index(inner, start)
    end = start + len(inner)
    one = "\n" not in inner
    return Unit(start, end, "text" if one else "bulk", "blank", "", start, end)


def _line(text: str, start: int, end: int, before: str, units: list[Unit]) -> None:
    """The units of one line of ``text``."""
    prefix, opened = "", start
    if not text[start].isalpha() and (match := _PREFIX.match(text, start, end)):
        prefix, start = match.lastgroup or "", match.end()
    at = start
    if not text[start].isalpha() and (stamp := _STAMP.match(text, start, end)) and text.find("</", start, end) < 0:
        units.append(Unit(start, stamp.end(), "label", before, prefix, opened, stamp.end()))
        before, prefix, at = "stamp", "", stamp.end()
        opened = at
    if _MARKS.search(text, at, end):
        limit = end if end - at <= LONGEST_LINE else at + LONGEST_LINE
        bars = text.count("|", at, limit) + text.count("  ", at, limit) > 8
        count = len(units)
        for match in _MARK.finditer(text, at, limit):
            kind = match.lastgroup
            if (
                (kind == "bar" and bars)
                or (kind == "name" and before != "line" and text[match.start() - 1] not in "|;,&?")
                or (kind == "quote" and match.end() - match.start() < QUOTED + 2)
            ):
                continue
            if match.start() > at:
                before, prefix = _text(text, at, match.start(), before, prefix, opened, units)
            if kind == "tag":
                units.append(Unit(match.start(), match.end(), "tag", before, prefix, match.start(), match.end()))
                before = "tag"
            elif kind in ("key", "name"):
                units.append(Unit(match.start(), match.end(), "label", before, prefix, opened, match.end()))
                before = "label"
            elif kind == "quote":
                number = len(units)
                _text(text, match.start() + 1, match.end() - 1, "quote", "", match.start(), units)
                if len(units) > number:
                    units[-1] = units[-1]._replace(closed=match.end())
                before = "quoted"
            else:
                if len(units) == count + 1 and match.end() - start < 64:
                    units[-1] = units[-1]._replace(form="label")
                before = "bar"
            prefix, at = "", match.end()
            opened = at
    if at < end:
        _text(text, at, end, before, prefix, opened, units)


def _text(text: str, start: int, end: int, before: str, prefix: str, opened: int, units: list[Unit]) -> tuple[str, str]:
    """The units of a piece of a line: its sentences, each with its label apart."""
    while start < end and text[start] in " \t:：":
        start += 1
    while start < end and text[end - 1] in " \t":
        end -= 1
    if not _SOMETHING.search(text, start, end):
        return before, prefix
    closed = end
    if text[start] in "\"“”„«»‹›「『`'‘’[{(,;" and (match := _OPENING.match(text, start, end)) and match.end() < end:
        before, start = "quote", match.end()
        while start < end and text[start] in " \t":
            start += 1
    if text[end - 1] in "\"”“»«›‹」』`'’,;]})" and (match := _CLOSING.search(text[start:end][-8:])):
        end -= len(match[0])
        if start >= end:
            return before, prefix
    cuts = [start, *_stops(text, start, end), end]
    for number, (begin, stop) in enumerate(pairwise(cuts)):
        while stop > begin and text[stop - 1] in ' \t"':
            stop -= 1
        final = number == len(cuts) - 2
        label = _LABEL.match(text, begin, stop) or (None if number else _PROMPT.match(text, begin, stop))
        if label or (text[stop - 1] in ":：" and begin < stop):
            colon = label.end() if label else stop
            units.append(Unit(begin, colon, "label", before, prefix, opened, colon))
            begin, before, prefix, opened = colon, "label", "", colon
            while begin < stop and text[begin] in ' \t"“„«「»‹':
                if text[begin] not in " \t":
                    before = "quote"
                begin += 1
        if begin < stop:
            units.append(Unit(begin, stop, "text", before, prefix, opened, closed if final else stop))
            before, prefix, opened = "stop", "", stop
        opened = stop
    return "piece", ""


def _stops(text: str, start: int, end: int) -> list[int]:
    """Where the first and the last sentences of a piece end."""
    if end - start < 9:
        return []
    if end - start <= 2 * SENTENCES:
        stops = [match.end() for match in _SENTENCE.finditer(text, start, end)]
    else:
        stops = [match.end() for match in _SENTENCE.finditer(text, start, start + SENTENCES)][:2]
        stops += [match.end() for match in _SENTENCE.finditer(text, end - SENTENCES, end)][-1:]
    return stops if len(stops) <= 3 else [*stops[:2], stops[-1]]


def _shape(classes: str) -> str:
    """How a text begins: runs of small letters, capitals and digits as one sign each."""
    for run, sign in _RUNS:
        classes = classes.replace(run, sign)
    return classes[:5]


def observe(text: str, units: Sequence[Unit], shapes: ShapeTable) -> list[list[str]]:
    """What is seen of each unit, as keys of the network's vocabulary."""
    count = len(units)
    last = count - 1
    heads = [text[start : min(end, start + HEAD)] for start, end, *_ in units]
    classes = [head.translate(_CLASSES_OF_SIGNS) for head in heads]
    looks = [_shape(signs[:16]) for signs in classes]
    kinds = Counter(look[:3] for look in looks)
    questions = [
        number
        for number, (start, end, form, *_) in enumerate(units)
        if (form == "text" and text[end - 1] in "?？") or text.find("? ", start, end) > 0
    ]
    first_question, last_question = (questions[0], questions[-1]) if questions else (-1, -1)
    breaks = sum(unit.before == "blank" for unit in units)
    paragraph = 0
    tags: list[tuple[str, str]] = []
    label, since = "none", 9
    seen: list[list[str]] = []
    size = min(9, count.bit_length())
    for number, unit in enumerate(units):
        start, end, form, before, prefix, _, closed = unit
        paragraph += before == "blank"
        length = end - start
        head, signs = heads[number], classes[number]
        tail = text[max(start + HEAD, end - TAIL) : end] if length > HEAD else ""
        folded = head.casefold()
        words = _WORD.findall(folded)
        after = units[number + 1].before if number < last else "end"
        look = looks[number]
        ending = text[end - 1]
        keys = [
            f"k={form}",
            f"b={before}",
            f"a={after}",
            f"ka={form}{before}{after}",
            f"s={look}",
            f"s3={look[:3]}",
            f"e={'a' if ending.isalpha() else '0' if ending.isdecimal() else ending}",
            f"n={length.bit_length()}",
            f"i={min(number, 8)}",
            f"j={min(last - number, 8)}",
            f"I={min(paragraph, 5)}",
            f"J={min(breaks - paragraph, 5)}",
            f"R={min(kinds[look[:3]], 16).bit_length()}{size}",
            f"N={size}",
        ]
        if prefix:
            keys.append(f"p={prefix}")
        if closed > end:
            keys.append("closed")
        if number and looks[number - 1][:3] == look[:3]:
            keys.append("r-")
        if number < last and looks[number + 1][:3] == look[:3]:
            keys.append("r+")
        if number in (first_question, last_question):
            keys.append("Z=only" if first_question == last_question else f"Z={number == last_question}")
        elif questions:
            keys.append("Z=after" if number > last_question else "Z=before" if number < first_question else "Z=in")
        if ending in "?？":
            keys.append("?")
        elif "? " in head or "? " in tail:
            keys.append("??")
        name = ""
        if form in ("label", "tag"):
            match = _NAME.search(text, start, end)
            name = match[0].strip(" *_)]\"'") if match else ""
            book = shapes.labels if form == "label" else shapes.tags
            known = book.get(name_of(name)) if name else None
            if form == "tag" and known is None and " " in name:
                name = name.split()[0]
                known = book.get(name_of(name))
            reading = known.reading if known else (name and reading_by_name(name.casefold())) or "?"
            mark = f"{'L' if known else 'N'}{reading}"
            keys.append(f"m={form}{mark}")
            if form == "label":
                label, since = mark, 0
            elif text.startswith(("</", "[/"), start):
                keys.append("m=end")
                if tags:
                    tags.pop()
            elif text[start] in "<[" and text[end - 2] != "/" and text[start + 1] not in "!?":
                tags.append((name, mark))
                del tags[:-8]
        else:
            since += 1
            if before == "blank" and since > 1:
                keys.append(f"gb={label}")
        keys.append(f"g={label}{min(since, 4)}")
        keys.append(f"t={tags[-1][1]}{min(len(tags), 3)}" if tags else "t=no")
        if words:
            first = words[0]
            keys += (f"^{first[:6]}", f"${words[-1][:6]}" if not tail else "$")
            if first in _CLASS_OF:
                keys.append(f"c={_CLASS_OF[first]}")
            if "you" in words or "your" in words:
                keys.append("c=you")
            if not head[0].islower() and len(words) > 2 and signs.count("A") * 2 > length:
                keys.append("upper")
        letters = sum(map(len, words))
        keys.append(f"l={int(4 * letters / len(head))}")
        keys.append(f"d={min(3, int(6 * signs.count('0') / len(head)))}")
        if tail:
            words += _WORD.findall(tail.casefold())
            keys.append(f"${words[-1][:6]}" if words else "$")
        if not head.isascii() and (characters := _CJK.findall(head)):
            keys.append("x=cjk")
            words += characters[:20]
            words += [a + b for a, b in pairwise(characters[:16])]
        elif not head.isascii():
            keys.append("x=other")
        keys += dict.fromkeys([word[:6] for word in words])
        seen.append(keys)
    return seen

"""Units: a message in lines and pieces of lines, and what is seen of each at a glance.

A line is cut at a label in front of its text, at tags, quotation marks and bars, and between its first and last
sentences. Whatever a program puts around a person's words so is a unit of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

from triton_router.parts.shapes import names_text

Form = Literal["text", "label", "tag", "rule", "fence", "bulk"]

# So many lines at each end of a message are cut; of those between each paragraph is one unit.
NEAR = 24
# Of so many lines in a row that begin alike, those within so many of the first and the last are one unit.
LONG_RUN, RUN_ENDS = 12, 4
_SIGNS = {sign: sign for sign in "-*•|+[<{}$>/"} | dict.fromkeys("0123456789", "0") | dict.fromkeys(" \t", " ")
# Lines of a log are one unit each or less within so many of the first and the last.
LOG_RUN, LOG_ENDS = 4, 2
_LOG = re.compile(
    r"\[?\d{2,4}[-/.]\d\d[-/.]\d{2,4}[T ]\d\d:\d\d:\d\d[\].,\d+Z-]*[ \t]|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d[ \t]"
    r"|\[?(?:\d\d:\d\d:\d\d[.,\d]*\]?[ \t]+\[?)?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b[\]: \t]"
)
_LOG_SIGNS = frozenset("0123456789[ABCDEFGHIJKLMNOPQRSTUVWXYZ")
# A field of a record, in JSON or YAML. Of those that are named as what persons say the last are cut wherever they are.
_FIELD = re.compile(r"^[ \t]*(?:- )?[\"']?([A-Za-z][\w .-]{1,39}+)[\"']?[ \t]*:[ \t]*(?:[\"']|([|>]-?$))", re.MULTILINE)
_VALUES = (': "', ':"', ": '", ": |", ": >")
# Comments in code below each other.
_COMMENT_SIGNS = ("# ", "// ", "-- ", "; ", "% ")
_COMMENT = re.compile(r"^[ \t]*(#+|//+|--|;+|%+)[ \t]+[^\W\d_][^\n]*(?:\n[ \t]*\1[^\n]*)*", re.MULTILINE)
FIELDS, SPOKEN_FIELDS, COMMENT = 64, 4, 2
# Of a longer line only so much at each end is cut.
LONGEST_LINE = 3_000
# A longer piece is cut only so near to its ends.
SENTENCES = 600
# So many units at each end count; those between are one.
MOST = 40
# So many sentences at the beginning and at the end of a piece are cut, more where there are few lines.
FEW_STOPS, MOST_STOPS, FEW_LINES = (2, 1), (8, 6), 6


# Three signs or more, or what mail programs put above a signature.
_RULE = re.compile(r"[^\w\s]?([^\w\s]|_|ー)(?:[ \t]*\1){2,}[^\w\s]?$|--$")
# A name between rules, or behind one: `=== Message ===`, `## Question`, `■ Frage`.
_TITLE = re.compile(r"(?:[=~*_<>\[{(|+-]{2,}|#{1,6}[ \t]|[■□◆◇▼▶●▪§])[ \t]*(?=[^\W_][^\n]{0,70}$)")
_PREFIX = re.compile(
    r"(?:(?P<quote>>[> ]*)|(?P<hash>#{1,6}(?=[ \t])|//|--(?=[ \t]))|(?P<bullet>[-*+•●▪·–—](?=[ \t])|\[[ xX]\](?=[ \t]))"
    r"|(?P<number>\(?(?:\d{1,2}|[A-Za-z])[.)](?=[ \t]))|(?P<name>@[\w.-]{2,30}[:,]?(?=[ \t]))"
    r"|(?P<sign>[$%❯➜►▶➤»](?=[ \t])|(?:[/!]|%%?)\w{2,12}(?:@\w{2,30})?(?=[ \t]))"
    r"|(?P<signs>[^\w\s\"'“”„«»「『`(\[{<\\¿¡$]{1,5}(?=[ \t])))[ \t]*(?=\S)"
)
# Between brackets, quotation marks or stars, or bare: what a line begins with up to its colon.
_LABEL = re.compile(
    r"[\"'*_\[(<【「{,]{0,4}[ \t]*[^\W_][^.?!;:：。？！\n\"{}<>|=]{0,90}(?:\d?\d:\d\d[^.?!;:：。？！\n\"{}<>|=]{0,30})?"
    r"[\"'*_\])>】」]{0,4}[ \t]?[:：][*_]{0,2}"
    r"(?=\s|$|[\"“„«‹「'`\[{(]|[^\x00-\x7f]|(?<=：)|(?<=[\u3040-\u9fff]:)|[A-Z][a-z])"
)
_PROMPT = re.compile(
    r"(?:[A-Za-z][\w-]{1,20}>(?=[A-Z])|(?:[\w:.@()-]{1,40}>|(?:[\w.-]{1,20}@[\w.-]{1,30}:)?[~/][~/\w.-]{0,40} ?[$#%>❯]"
    r"|@[\w.-]{2,30}[:,]?|[ur]/\w{2,30}[:,]?)[ \t]+)(?=\S)"
)
_BOLD_LABEL = re.compile(r":[*_]{1,3}[ \t]+\S")
# Behind a label: whom a line is for, or a command.
_ADDRESS = re.compile(r"[ \t]*(?:@[\w.-]{2,30}[:,]?|(?:[/!]|%%?)\w{2,12}(?:@\w{2,30})?|[?>»→]{1,3})[ \t]+(?=\S)")
_STAMP = re.compile(
    r"(?:\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?Z?[:,]?(?: -)?|\d\d?:\d\d(?::\d\d)?|\[[^\[\]\n]{2,400}\](?!\()"
    r"|\([^()\n]{2,40}\)|<[@#+~%&]?[\w .|-]{2,40}>)[:：]?[ \t]+(?=\S)"
)
_MARK = re.compile(
    r"(?P<tag></?[A-Za-z_!?|$@/][^<>\n]{0,200}>|\[/?[A-Z][A-Z_ ]{1,30}\](?!\()|\{\{[^{}\n]{1,60}\}\}"
    r"|\[\[[^\[\]\n]{1,60}\]\]|【[^】\n]{1,40}】)"
    r"|(?P<key>\"[\w .$@/-]{1,40}\"[ \t]*:[ \t]*|'[\w .$@/-]{1,40}':[ \t]*(?=['\"\d])"
    r"|(?:\b[\w.-]{2,30}=|(?<=[{,] )[\w.-]{2,30}: ?)(?=\"))"
    r"|(?P<quote>\"(?:[^\"\\\n]|\\.)*\"|“[^”\n]*”|„[^“”\n]*[“”]|«[^»\n]*»|‹[^›\n]*›|「[^」\n]*」|『[^』\n]*』"
    r"|[⟦⟨《〈〔][^⟧⟩》〉〕\n]*[⟧⟩》〉〕]|(?<=[:=(\[{,] )'(?:[^'\\\n]|\\.)*'(?=[,;)\]}]|$))"
    r"|(?P<open>(?:(?<=[\s:=(\[,：])[\"“„«‹「⟦⟨《]|(?<=\w)「)(?= ?[^\s\"“”„«»‹›「」][^\"“”„«»‹›「」⟧⟩》\n]*$))"
    r"|(?P<close>(?<=[^\s:=(\[{,])[\"”»›」⟧⟩》](?=[\s,;)}\]]|$))"
    r"|(?P<name>\b[\w.-]{1,30}[ \t]?=[ \t]?(?=[^\W_]|['‘“(]))"
    r"|(?P<said>(?<=[.!?…\])\"] )[A-Z][\w'-]{1,20}(?: [A-Za-z]\w{1,15})?:[ \t]+(?=\S))"
    r"|(?P<aside>[ \t]+(?:[\[(](?!\")[^\[\](){}\n]{2,200}[\])]\.?|[#=*~%:|<>-]{2,}|#\w+(?:[ \t]+#\w+)*)$)"
    r"|(?P<field>[ \t]+[/;][ \t]+(?=[A-Z][\w ]{1,20}(?:: |=)))"
    r"|(?P<dash>[ \t]+(?:[—–]|--?)[ \t]+)"
    r"|(?P<bar>[ \t]*\|(?:[ \t]*|$)|\t+|(?<=\S) {2,}(?=\S)|[ \t]+(?:[·•»▸▶►→❯➜]|[-=>]{0,3}>|::)[ \t]+)"
)
# What a mark begins with; others need two characters, or stand at the end of a line.
_SIGN = re.compile(r"[<\[{\"“„«‹「『⟦⟨《〈〔⟧⟩》|\t·•【»”›」▸▶►→❯➜=>]")
_PAIRS_OF_SIGNS = ("  ", " (", " —", " –", " -", ":: ", " / ", " ; ")
_LAST_SIGNS = frozenset("])'#=*~%:<>-")
_HASHTAG, _SPEAKER = re.compile(r"[ \t]#\w+$"), re.compile(r"[.!?…)] [A-Z][\w'-]+(?: \w+)?:")
_SOMETHING = re.compile(r"[^\W_]")
# What closes a line is told from so much text in front of it.
ASIDE = 16
# A dash cuts a line so near to its ends.
DASH = 50
# A shorter quotation is a word of its line.
QUOTED = 8
# One set of characters in front: several times quicker to look for than alternatives.
_SENTENCE = re.compile(r"[.!?:。！？](?:(?<=[.!?:])[\"'”)\]]?\s+|(?<=[。！？])\s*)(?=\S)")
_OPENING = re.compile(
    r"[\[{(,; ]*[\"“”„«»‹›「『⟦⟨《〈〔`'‘’]+|\*{1,3}(?=\S)|__?(?=\S)|~~|\({1,3}|\[{1,3}|\{{1,3}|<{2,3}"
)
_CLOSING = re.compile(
    r"[\"”“»«›‹」』⟧⟩》〉〕`'’]+[,;\]}) ]*$|(?<=\S)\*{1,3}$|(?<=\S)__?$|~~$|\){2,3}$|\]{2,3}$|\}{2,3}$|>{2,3}$"
)


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
    stops = FEW_STOPS if len(lines) > FEW_LINES else MOST_STOPS
    place, blank, fenced, bulk = 0, "start", False, -1
    hidden_lines = _hidden(lines)
    spoken, spoken_lines = _spoken(text) if "```" in text or True in hidden_lines else {}, 0
    for line, hidden in zip(lines, hidden_lines, strict=True):
        start = place
        place += len(line) + 1
        inner = line.strip()
        spoken_lines = spoken.get(start, spoken_lines - 1)
        fence = inner.startswith(("```", "~~~")) and (fenced or " " not in inner or len(inner) < 40)
        if inner and (hidden or fenced) and not fence and spoken_lines <= 0:
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
        elif (title := _title(inner)) is not None:
            units.append(Unit(begin + title[0], begin + title[1], "label", blank, "title", begin, end))
        else:
            _line(text, begin, end, blank, stops, units)
        blank = "line"
    if bulk >= 0:
        units.append(_bulk(text, bulk, len(text)))
    if len(units) > 2 * MOST + 1:
        middle = units[MOST]._replace(end=units[-MOST - 1].end, closed=units[-MOST - 1].closed, form="bulk")
        units[MOST:-MOST] = [middle]
    return units


def _title(line: str) -> tuple[int, int] | None:
    """Where the name in a title begins and ends; ``None`` where ``line`` is none."""
    if len(line) >= 80 or line[0].isalnum() or _BOLD_LABEL.search(line):
        return None
    bare = line.rstrip(" \t*_~=#<>|)]}+-")
    if not bare or bare[-1] in ".?!,;？。！":
        return None
    if sign := _TITLE.match(line):
        return sign.end(), max(len(bare), sign.end() + 1)
    return (1, len(line) - 1) if line[0] == "[" and line[-1] == "]" and "](" not in line else None


def _hidden(lines: Sequence[str]) -> list[bool]:
    """Which lines are not cut: those far from both ends, and those within a long list, table, log or piece of code."""
    count = len(lines)
    hidden = [NEAR <= number < count - NEAR for number in range(count)]
    if count > LONG_RUN:
        _hide_runs(hidden, [_SIGNS.get(line[:1], "") for line in lines], LONG_RUN, RUN_ENDS)
    if count > LOG_RUN:
        logged = ["log" if line[:1] in _LOG_SIGNS and _LOG.match(line) else "" for line in lines]
        if "log" in logged:
            _hide_runs(hidden, logged, LOG_RUN, LOG_ENDS)
    return hidden


def _hide_runs(hidden: list[bool], signs: Sequence[str], long: int, ends: int) -> None:
    """Hide all but both ends of each run of lines of one sign, not empty, that has more than ``long``."""
    start = 0
    for sign, run in groupby(signs):
        length = sum(1 for _ in run)
        if sign and length > long:
            hidden[start + ends : start + length - ends] = [True] * (length - 2 * ends)
        start += length


def _spoken(text: str) -> dict[int, int]:
    """Where the last fields begin in which a person speaks, and the last comments; how many lines of each are cut."""
    spoken = {}
    if any(mark in text for mark in _VALUES):
        fields = [field for field in [*_FIELD.finditer(text)][-FIELDS:] if names_text(field[1])]
        spoken = {field.start(): 3 if field[2] else 1 for field in fields[-SPOKEN_FIELDS:]}
    if "```" in text and any(sign in text for sign in _COMMENT_SIGNS):
        comments = [each for each in [*_COMMENT.finditer(text)][-SPOKEN_FIELDS:] if each[0].count(" ") > COMMENT]
        spoken |= {each.start(): 1 + each[0].count("\n") for each in comments}
    return spoken


def _bulk(text: str, start: int, end: int) -> Unit:
    inner = text[start:end].strip()
    start = text.index(inner, start)
    end = start + len(inner)
    one = "\n" not in inner
    return Unit(start, end, "text" if one else "bulk", "blank", "", start, end)


def _line(text: str, start: int, end: int, before: str, stops: tuple[int, int], units: list[Unit]) -> None:
    """The units of one line of ``text``."""
    begin = start
    start, before, prefix, opened = _front(text, start, end, before, units)
    at = start
    if _has_marks(text, at, end):
        limit = end if end - at <= LONGEST_LINE else at + LONGEST_LINE
        bars = text.count("|", at, limit) + text.count("  ", at, limit) > 8
        count = len(units)
        for match in _MARK.finditer(text, at, limit):
            kind = match.lastgroup
            if (
                (kind == "bar" and bars)
                or (kind == "name" and not _is_field(text, match, begin, before))
                or (kind == "aside" and match.start() - begin < ASIDE)
                or (kind == "dash" and match.start() - begin > DASH and end - match.end() > DASH)
                or (kind == "quote" and match.end() - match.start() < QUOTED + 2)
            ):
                continue
            if kind == "close":
                _text(text, at, match.end(), before, prefix, opened, stops, units)
                before = "quoted"
            elif match.start() > at:
                before, prefix = _text(text, at, match.start(), before, prefix, opened, stops, units)
            if kind == "tag":
                units.append(Unit(match.start(), match.end(), "tag", before, prefix, match.start(), match.end()))
                before = "tag"
            elif kind in ("key", "name", "said"):
                stop = match.start() + len(match[0].rstrip())
                units.append(Unit(match.start(), stop, "label", before, prefix, opened, match.end()))
                before = "label"
            elif kind == "quote":
                number = len(units)
                _text(text, match.start() + 1, match.end() - 1, "quote", "", match.start(), stops, units)
                if len(units) > number:
                    units[-1] = units[-1]._replace(closed=match.end())
                before = "quoted"
            elif kind == "open":
                before = "quote"
            elif kind == "aside":
                number = len(units)
                _text(text, match.start(), match.end(), "aside", "", match.start(), stops, units)
                if number == len(units) > count:  # signs that close the line
                    units[-1] = units[-1]._replace(closed=match.end())
            elif kind in ("dash", "field"):
                before = kind
            elif kind == "bar":
                if len(units) == count + 1 and match.end() - start < 64:
                    units[-1] = units[-1]._replace(form="label")
                before = "bar"
            prefix, at = "", match.end()
            opened = match.start() if kind == "open" else at
    if at < end:
        _text(text, at, end, before, prefix, opened, stops, units)


def _front(text: str, start: int, end: int, before: str, units: list[Unit]) -> tuple[int, str, str, int]:
    """Where the text behind the marks at the front of a line begins; its ``before``, ``prefix`` and ``opened``."""
    prefix, opened = "", start
    for _ in range(3):  # as in `- [12:03] @bot `
        bare = text[start].isalpha() and text[start + 1 : start + 2] not in (".", ")")
        if not bare and (match := _PREFIX.match(text, start, end)):
            prefix, start = match.lastgroup or "", match.end()
            continue
        if not bare and (match := _STAMP.match(text, start, end)) and text.find("</", start, end) < 0:
            after = "stamp"
        elif match := _PROMPT.match(text, start, end):
            after = "label"
        else:
            break
        units.append(Unit(start, match.end(), "label", before, prefix, opened, match.end()))
        before, prefix, start = after, "", match.end()
        opened = start
    return start, before, prefix, opened


def _has_marks(text: str, start: int, end: int) -> bool:
    """Whether ``_MARK`` may find something in a line."""
    return (
        text[end - 1] in _LAST_SIGNS
        or _SIGN.search(text, start, end) is not None
        or any(text.find(pair, start, end) >= 0 for pair in _PAIRS_OF_SIGNS)
        or (text.find("#", start, end) >= 0 and _HASHTAG.search(text, start, end) is not None)
        or (text.find(":", start, end) >= 0 and _SPEAKER.search(text, start, end) is not None)
    )


def _is_field(text: str, match: re.Match[str], begin: int, before: str) -> bool:
    """Whether a name with an equals sign is that of a field, not of a formula."""
    if before == "line" or text[match.start() - 1] in "|;,&?":
        return True
    return match.start() == begin and match.end() - begin > 3 and match[0].endswith("=")


def _text(
    text: str,
    start: int,
    end: int,
    before: str,
    prefix: str,
    opened: int,
    most: tuple[int, int],
    units: list[Unit],
) -> tuple[str, str]:
    """The units of a piece of a line: its sentences, each with its label apart."""
    while start < end and text[start] in " \t:：":
        start += 1
    while start < end and text[end - 1] in " \t":
        end -= 1
    if not _SOMETHING.search(text, start, end):
        return before, prefix
    closed = end
    if (
        text[start] in "\"“”„«»‹›「『⟦⟨《〈〔`'‘’[{(,;*_~<"
        and (match := _OPENING.match(text, start, end))
        and match.end() < end
    ):
        before, start = "quote", match.end()
        while start < end and text[start] in " \t":
            start += 1
    if text[end - 1] in "\"”“»«›‹」』⟧⟩》〉〕`'’,;]})*_~>" and (match := _CLOSING.search(text[start:end][-8:])):
        end -= len(match[0])
        if start >= end:
            return before, prefix
    cuts = [start, *_stops(text, start, end, most), end]
    for number, (begin, stop) in enumerate(pairwise(cuts)):
        while stop > begin and text[stop - 1] in ' \t"':
            stop -= 1
        final = number == len(cuts) - 2
        label = _LABEL.match(text, begin, stop) or (None if number else _PROMPT.match(text, begin, stop))
        if label or (text[stop - 1] in ":：" and begin < stop):
            colon = label.end() if label else stop
            units.append(Unit(begin, colon, "label", before, prefix, opened, colon))
            begin, before, prefix, opened = colon, "label", "", colon
            while begin < stop and text[begin] in " \t\"'`“‘„«「『»‹":
                if text[begin] not in " \t":
                    before = "quote"
                begin += 1
        if before in ("label", "bar", "dash") and (sign := _ADDRESS.match(text, begin, stop)):
            begin, prefix = sign.end(), "name"
        if begin < stop:
            units.append(Unit(begin, stop, "text", before, prefix, opened, closed if final else stop))
            before, prefix, opened = "stop", "", stop
        opened = stop
    return "piece", ""


def _stops(text: str, start: int, end: int, most: tuple[int, int]) -> list[int]:
    """Where the first and the last sentences of a piece end."""
    if end - start < 9:
        return []
    first, last = most
    if end - start <= 2 * SENTENCES:
        stops = [match.end() for match in _SENTENCE.finditer(text, start, end)]
    else:
        stops = [match.end() for match in _SENTENCE.finditer(text, start, start + SENTENCES)][:first]
        stops += [match.end() for match in _SENTENCE.finditer(text, end - SENTENCES, end)][-last:]
    return stops if len(stops) <= first + last else [*stops[:first], *stops[-last:]]

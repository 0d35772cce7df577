"""One message, from text to parts: by tags, labels, fences, quotes and logs, in this order, and by position.

Everything is linear in the text. Of a text over ``LONGEST`` the middle is one piece of material, unread.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, pairwise, zip_longest
from typing import Literal, NamedTuple

from triton_router.dialects.request import names
from triton_router.parts.asking import asks, works_on_text
from triton_router.parts.shapes import DATES, MAIL, ShapeTable, name_of, reading_by_name

Kind = Literal["words", "material", "context", "history", "template", "tool", "system", "assistant"]
"""`words` are the person's; `material` is what the person pasted to work on; a program added the next three."""

LONGEST = 32_768
# Below this a text without marks is all one: nothing can be told apart in it.
SHORT = 400
# Tags are read inside of tags so many times.
DEEPEST = 3
# A question before or after long material has at most so many characters, and at most this share of all.
ASKED, ASKED_SHARE = 600, 0.4
# Labels are no longer than this, colon included.
LABEL = 50
# A line that only announces what follows is no longer than this.
CAPTION = 80

_BRACKET = re.compile(r"[<\[](/?)([A-Za-z_][\w.:-]{0,63})(?:\s[^<>\[\]]{0,400})?(?<!/)[>\]]")
_TAG = re.compile(r"<(/?)([A-Za-z_][\w.:-]{0,63})(?:\s[^<>]{0,400})?(?<!/)>")
_TURN = re.compile(r"<\|(?:im_start|start_header_id|start)\|>[ \t]*(system|user|assistant)(?:<\|end_header_id\|>)?\s*")
_TURN_END = re.compile(r"<\|(?:im_end|eot_id|end|begin_of_text|end_of_text)\|>")
_FRONT_MATTER = re.compile(r"---\n(?:[\w -]{1,40}:[^\n]*\n)+---\n")
_RULE = re.compile(r"^[ \t]*(?:-{3,}|={3,}|\*{3,}|_{3,})[ \t]*$", re.MULTILINE)
_BEGIN = re.compile(r"[-=#*<>\[ _]{2,}[ \t]*(?:begin|start)\b", re.IGNORECASE)
_END = re.compile(r"[-=#*<>\[ _]{2,}[ \t]*(?:/|end\b|stop\b|finish\b)", re.IGNORECASE)
_ASKED = re.compile(
    r"(?:the )?(?:user|customer|person|client)(?:'s)? (?:asks?|asked|writes|wrote|says|said|wants)$", re.I
)
_FENCES = ("```", '"""', "'''", "~~~")
# A list or a fence: what ends with the next blank line behind it.
_BLOCK = re.compile(r"[ \t]*(?:[-*\u2022][ \t]|\d{1,3}[.)][ \t]|```)")
_HTML = names(
    """a abbr address article aside audio b base blockquote body br button canvas caption center cite code col colgroup
    dd del details div dl dt em embed fieldset figcaption figure font footer form frame h1 h2 h3 h4 h5 h6 head header hr
    html i iframe img input ins kbd label legend li link main map mark meta nav noscript object ol option p param path
    picture pre q s samp script section select small span strike strong style sub summary sup svg table tbody td
    template textarea tfoot th thead time title tr tt u ul var video"""
)
_NUMBERED = re.compile(r"[\[(#]?\d{1,3}[\])]?$")
_STAMP = re.compile(
    r"\[(?=[^\]\n]{0,40}\d[:/.-]\d)[\w ,:/.+-]{6,40}\]\s*|\(?\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?"
    r"(?:Z|\)|:|,| -)*\s+"
)
_LOG = re.compile(
    r"\[?\d{2,4}[-/.]\d\d[-/.]\d{2,4}[T ]\d\d:\d\d|\[?\d\d:\d\d:\d\d[\].,\s]|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\[?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b[\]:\s]|Traceback \(most|\s+at [\w$.<>]+\("
    r'|\s+File "[^"]+", line \d|\s*\.\.\. \d+ more|Caused by: |\[\s*\d+\.\d+\] |[IWEF]\d{4} \d\d:\d\d'
)
_LEVELS = frozenset({"TRAC", "DEBU", "INFO", "NOTI", "WARN", "ERRO", "FATA", "CRIT", "Trac"})
_MAIL_HEAD = re.compile(
    r"-{2,}\s*(?:original message|forwarded message|weitergeleitete nachricht|mensaje original|message d'origine)\b"
    r"|(?:on|am|le|el|il|op|em)\b.{6,120}\b(?:wrote|schrieb|a écrit|escribió|ha scritto|schreef|escreveu)\b.{0,40}:$"
    r"|在.{4,80}写道[:：]$",
    re.IGNORECASE,
)
_PASTED = re.compile(r'"[^"]{300,}"|\u201c[^\u201d]{300,}\u201d|\u300c[^\u300d]{150,}\u300d')


_QUOTE_MARKS = '"\u201c\u300c'


class Part(NamedTuple):
    """A piece of a conversation. ``reason`` says by what it was told apart, ``turn`` where it stands."""

    kind: Kind
    text: str
    reason: str = ""
    turn: int = 0


def partition(blocks: Sequence[str], shapes: ShapeTable) -> list[Part]:
    """The parts of what one message of a user says, in its order; ``blocks`` are the texts that it was sent in.

    Of a message that only listed context is in, nothing is words.
    """
    parts = [part for block in blocks if block.strip() for part in _read(block, shapes)]
    return _settled(parts, shapes)


def _settled(parts: list[Part], shapes: ShapeTable) -> list[Part]:
    """The person's words in a message that seems to have none, or only those of a template, are looked for again."""
    marked = [number for number, part in enumerate(parts) if _is_marked(part)]
    if marked:
        latest = _latest(parts, marked)
        return [inner for number, part in enumerate(parts) for inner in _around(part, number in latest)]
    if any(part.kind == "words" for part in parts):
        return parts
    unlisted = [part for part in parts if part.reason.startswith("tag") and name_of(part.reason[4:]) not in shapes.tags]
    chosen = next((part for part in reversed(unlisted) if asks(part.text)), unlisted[-1] if unlisted else None)
    if chosen is None:
        chosen = next((part for part in reversed(parts) if part.kind == "material"), None)
    if chosen is None:
        return _last_paragraph(parts) if any(part.kind == "context" for part in parts) else _directions(parts)
    return [part._replace(kind="words") if part is chosen else part for part in parts]


def _directions(parts: list[Part]) -> list[Part]:
    """The person's words, where all was taken for a program's directions."""
    bare = all(part.reason == "heading" for part in parts)
    shown = [part.kind == "template" and (bare or part.reason != "heading") for part in parts]
    return [part._replace(kind="words") if show else part for part, show in zip(parts, shown, strict=True)]


def _last_paragraph(parts: list[Part]) -> list[Part]:
    """The person's words, where a label rules all of the text: its last paragraph, behind a blank line."""
    for number in range(len(parts) - 1, -1, -1):
        before, gap, last = parts[number].text.rstrip().rpartition("\n\n")
        if gap and parts[number].kind == "context" and parts[number].reason.startswith("label"):
            split = [parts[number]._replace(text=before), Part("words", last, "position")]
            return [*parts[:number], *split, *parts[number + 1 :]]
    return _directions(parts)


def _is_marked(part: Part) -> bool:
    return part.kind == "words" and part.reason.startswith(("tag", "label"))


def _latest(parts: Sequence[Part], marked: Sequence[int]) -> frozenset[int]:
    """Of the words that marks name, those behind the last answer: what comes before are examples or earlier turns."""
    for before, after in zip(reversed(marked[:-1]), reversed(marked[1:]), strict=True):
        if any(part.kind == "template" and part.reason.startswith("label") for part in parts[before + 1 : after]):
            return frozenset(number for number in marked if number >= after)
    return frozenset(marked)


def _around(part: Part, latest: bool) -> list[Part]:
    """Marked words that count are looked at once more; around them stand the program's own directions."""
    if latest:
        return _sections(part)
    if _is_marked(part):
        return [part._replace(kind="context")]
    return [part._replace(kind="template") if part.kind == "words" else part]


def _read(text: str, shapes: ShapeTable) -> list[Part]:
    """The parts of one block, those of its middle as one where it is long."""
    if len(text) <= 2 * LONGEST:
        return _pieces(text, shapes)
    # The person speaks before or behind so long a text, not in the middle of it.
    ends = _pieces(f"{text[:LONGEST]}\n\n{text[-LONGEST:]}", shapes)
    return [*ends[:1], Part("material", text[LONGEST:-LONGEST], "length"), *ends[1:]]


def _pieces(text: str, shapes: ShapeTable) -> list[Part]:
    rest, data = _data_apart(_turns_as_labels(text.replace("\r\n", "\n")))
    pieces = list(_elements(rest, shapes))
    parts = [Part("context", each, "data") for each in data]
    alone = sum(piece.kind == "words" for piece in pieces) == 1
    for piece, after in zip_longest(pieces, pieces[1:]):
        if piece.kind != "words" or piece.reason:
            parts.append(piece)
        elif after and after.kind != "words" and _announces(piece.text, headings_only=alone):
            parts.append(Part("context", piece.text, "caption"))
        else:
            parts += _sections(piece, shapes)
    return parts


def _announces(text: str, *, headings_only: bool = False) -> bool:
    """Whether ``text`` is a heading, or a line with a colon, and asks for nothing."""
    line = text.strip()
    mark = line.startswith("#") or (line.endswith((":", "：")) and not headings_only)
    return mark and len(line) <= CAPTION and "\n" not in line and not asks(line)


def _turns_as_labels(text: str) -> str:
    """``text`` with the marks of models' chat templates as labels."""
    if "<<SYS>>" in text:
        text = text.replace("<<SYS>>", "<SYS>").replace("<</SYS>>", "</SYS>")
    if "<|" not in text:
        return text
    return _TURN_END.sub("\n", _TURN.sub(lambda match: f"\n{match[1].capitalize()}:\n", text))


def _data_apart(text: str) -> tuple[str, list[str]]:
    """``text`` without data at its ends, and these: an object in JSON, lines of YAML between rules, a signature."""
    data = []
    rest = text
    if rest.startswith("---\n") and (front := _FRONT_MATTER.match(rest)):
        data.append(front[0])
        rest = rest[front.end() :]
    elif rest.startswith("{") and '"' in rest[:40]:
        with suppress(ValueError, RecursionError):
            end = json.JSONDecoder().raw_decode(rest)[1]
            data.append(rest[:end])
            rest = rest[end:]
    if rest.endswith("}") and (start := rest.rfind("\n{")) > 0:
        with suppress(ValueError, RecursionError):
            json.loads(rest[start:])
            data.append(rest[start:])
            rest = rest[:start]
    if (start := rest.rfind("\n-- \n")) > 0:
        data.append(rest[start:])
        rest = rest[:start]
    return (rest, data) if rest.strip() else (text, [])


# --- tags -------------------------------------------------------------------------------------------------------------


class _Element(NamedTuple):
    """A block in tags: where it and its content begin and end; ``marked`` says that tags in it mark words."""

    start: int
    end: int
    inner: tuple[int, int]
    name: str
    marked: bool


def _elements(text: str, shapes: ShapeTable, depth: int = 0) -> Iterator[Part]:
    """``text`` outside of tags as words, and each outermost block in tags."""
    at = 0
    for element in _outermost(text, shapes) if "</" in text or "[/" in text else ():
        if text[at : element.start].strip():
            yield Part("words", text[at : element.start])
        at = element.end
        yield from _content(element, text[slice(*element.inner)].strip(), shapes, depth)
    if text[at:].strip():
        yield Part("words", text[at:])


def _content(element: _Element, inner: str, shapes: ShapeTable, depth: int) -> Iterable[Part]:
    shape = shapes.tags.get(name_of(element.name))
    reason = f"tag {element.name}"
    whole = [Part(shape.reading if shape else reading_by_name(element.name) or "context", inner, reason)]
    nested = "</" in inner or "[/" in inner
    if depth == DEEPEST or not (element.marked or shape) or not nested or (shape and shape.reading != "words"):
        return whole
    parts = [part._replace(reason=part.reason or reason) for part in _elements(inner, shapes, depth + 1)]
    if shape is not None:
        # A client also puts its own blocks between the person's words.
        return parts
    # A wrapper of no known name is the program's, but for what is marked as the person's in it.
    if not any(part.kind == "words" and part.reason != reason for part in parts):
        return whole
    return [part._replace(kind="context") if part.reason == reason else part for part in parts]


def _outermost(text: str, shapes: ShapeTable) -> list[_Element]:
    fences = _fences(text)
    opened: list[tuple[str, int, int]] = []
    counts: dict[str, int] = {}
    elements: list[_Element] = []
    folded: dict[str, str] = {}
    words = -1
    for match in (_BRACKET if "[/" in text else _TAG).finditer(text):
        closing, written = match.groups()
        start, end = match.span()
        while fences and fences[0][1] < start:
            fences.popleft()
        if fences and fences[0][0] <= start:
            continue
        name = folded.get(written) or folded.setdefault(written, name_of(written))
        if not closing:
            if name in shapes.tags or (name not in _HTML and _begins_a_line(text, start)):
                opened.append((name, start, end))
                counts[name] = counts.get(name, 0) + 1
        elif counts.get(name):
            inner = ""
            while inner != name:  # those in it that nobody closed go with it
                inner, begin, body = opened.pop()
                counts[inner] -= 1
            while elements and elements[-1].start > begin:
                elements.pop()
            elements.append(_Element(begin, end, (body, start), written, words > begin))
            shape = shapes.tags.get(name)
            if (shape.reading if shape else reading_by_name(written)) == "words":
                words = begin
    return elements


def _begins_a_line(text: str, start: int) -> bool:
    before = text[max(0, start - 16) : start].rstrip(" \t")
    return (not before and start <= 16) or before.endswith(("\n", ">", ":"))


def _fences(text: str) -> deque[tuple[int, int]]:
    """Where fenced code begins and ends; a fence that nobody closed ends with the text."""
    if "```" not in text:
        return deque()
    marks = [match.start() for match in re.finditer(r"^[ \t]{0,3}```", text, re.MULTILINE)]
    return deque(zip_longest(marks[::2], marks[1::2], fillvalue=len(text)))


# --- lines ------------------------------------------------------------------------------------------------------------


_NO_SHAPES = ShapeTable(())


def _sections(piece: Part, shapes: ShapeTable = _NO_SHAPES) -> list[Part]:
    """The parts of words without tags, by labels and lines. Words that a mark already names stay named."""
    text = piece.text.strip()
    if "\n" not in text and len(text) < SHORT:
        stamp = _STAMP.match(text)
        bare = text[stamp.end() :] if stamp else text
        return [Part("words", bare, piece.reason)] if bare else [Part("context", text, "date")]
    runs = [
        Part(kind, joined, reason or piece.reason)
        for kind, reason, lines in _runs(text.split("\n"), shapes)
        if (joined := "\n".join(lines).strip())
    ]
    parts = []
    for part in _captions_apart(runs):
        # What a label names as the person's is looked at once more, with what stands around it in sight.
        plain = part.kind == "words" and part.reason == piece.reason
        parts += _positions(part) if plain else [part]
    return parts


_Run = tuple[Kind, str, list[str]]


def _runs(lines: list[str], shapes: ShapeTable) -> list[_Run]:
    """Lines that belong together, with their kind and the reason. A label rules until the next, or a blank line where
    its text stands behind it on its line."""
    kind: Kind = "words"
    reason = ""
    paragraph = asked = given = False
    current: list[str] = []
    runs: list[_Run] = [(kind, reason, current)]
    number, end = 0, len(lines)

    def put(kind: Kind, reason: str, *lines: str) -> None:
        nonlocal current
        if runs[-1][0] != kind or runs[-1][1] != reason:
            current = []
            runs.append((kind, reason, current))
        current.extend(lines)

    while number < end:
        line = lines[number]
        number += 1
        first = line[:1]
        if not line or line.isspace():
            if paragraph and kind != "words":
                kind, reason, paragraph = "words", "", False
            put(kind, reason, line)
        elif (
            first.isalpha()
            and not _in_log(runs[-1])
            and line[:4] not in _LEVELS
            and ((":" not in line and line.isascii()) or not _has_colon(line))
        ):
            if runs[-1][0] is kind and runs[-1][1] is reason:
                current.append(line)  # most lines, and most of the time
            else:
                put(kind, reason, line)
        elif (fence := line.lstrip(" ")[:3]) in _FENCES and (fence == "```" or line.strip() == fence):
            behind = next((at + 1 for at in range(number, end) if lines[at].lstrip(" ").startswith(fence)), end)
            put(*(("material", "fence") if kind == "words" else (kind, reason)), line, *lines[number:behind])
            number = behind
        elif kind == "words" and not first.isalpha() and _BEGIN.match(line):
            behind = next((at + 1 for at in range(number, end) if _END.match(lines[at])), number)
            put("context", "marks", line, *lines[number:behind])
            number = behind
        elif first == ">":
            put("context", "quote", line)
        elif kind == "words" and line.startswith("| "):
            put("material", "table", line)
        elif label := _label(line, shapes):
            reading, name, value = label
            if reading == "line":
                put("context", f"label {name}", line)
            elif asked and given and reading == "context":
                put(kind, reason, line)  # the question itself speaks of its context
            else:
                asked, given = asked or reading == "words", given or (reading == "context" and not asked)
                kind, reason = reading, f"label {name}"
                block = number < end and bool(_BLOCK.match(lines[number]))
                paragraph = (bool(value) or block) and reading in ("context", "history")
                if not value and reading != "context":
                    put("template", "heading", line)
                else:
                    put(kind, reason, value if reading == "words" else line)
        elif kind == "words" and len(line) < 200 and _MAIL_HEAD.match(line):
            quoted = any(each.startswith(">") for each in lines[number : number + 3])
            below = 0 if quoted and not line.startswith("-") else end - number
            put("context", "mail", line, *lines[number : number + below])
            number += below
        elif kind == "words" and (_LOG.match(line) or _in_log(runs[-1])):
            put("material", "log", line)
        else:
            put(kind, reason, line)
    return runs


def _in_log(run: _Run) -> bool:
    """Whether ``run`` is a log that no blank line has ended."""
    return run[1] == "log" and bool(run[2][-1].strip())


def _has_colon(line: str) -> bool:
    """Whether ``line`` has a colon where a label or the head of a mail has one."""
    return line.find(":", 0, LABEL) >= 0 or line[-1] in ":：" or (not line.isascii() and line.find("：", 0, LABEL) >= 0)


def _label(line: str, shapes: ShapeTable) -> tuple[Kind | Literal["line"], str, str] | None:
    """What a line's label says of its section, the label, and what follows it on the line."""
    head = line[:LABEL].replace("：", ":") if not line.isascii() else line[:LABEL]
    colon = head.find(":")
    heading = head.startswith("#")
    if colon < 0:
        if heading:
            name, value = line.strip("# *\t"), ""
        elif head.startswith("[") and (match := re.match(r"\[(?:\w{3,9} ?)?\d{1,3}\][ .)]?", head)):
            return "context", "number", line[match.end() :].strip()
        else:
            return None
    elif head.startswith("[") and (match := re.match(r"\[(?:\w{3,9} ?)?\d{1,3}\][ .:)]?", head)):
        return "context", "number", line[match.end() :].strip()
    else:
        name, value = head[:colon].strip("# *-\t"), line[colon + 1 :].strip("* \t")
    if not name:
        return None
    folded = name_of(name)
    if (folded in DATES and 0 < len(value) < 60) or (folded in MAIL and 0 < len(value) < 160):
        return "line", name, value
    shape = shapes.labels.get(folded)
    if shape is None and (bare := _NUMBERED.sub("", folded).strip()) != folded:
        shape = shapes.labels.get(bare)
        if shape is None or shape.reading == "words":
            return None
    if shape is not None:
        return shape.reading, name, value
    # An unlisted name has to stand out as one: a heading, alone on its line, or of an asking person.
    reading = reading_by_name(name) if shapes.labels and (heading or not value or _ASKED.match(name)) else None
    return (reading, name, value) if reading else None


# --- position ---------------------------------------------------------------------------------------------------------


def _captions_apart(parts: list[Part]) -> list[Part]:
    """A line that only announces what follows ("Metadata:") goes with it, where the person says more than that."""
    announces = [
        part.kind == "words" and after.kind in ("material", "context") and _announces(part.text)
        for part, after in pairwise(parts)
    ]
    if not any(announces) or sum(announces) == sum(part.kind == "words" for part in parts):
        return parts
    caption = chain(announces, [False])
    return [
        Part("context", part.text, "caption") if is_one else part for part, is_one in zip(parts, caption, strict=True)
    ]


def _ruled(text: str) -> bool:
    return any(rule in text for rule in ("\n---", "\n===", "\n***", "\n___")) and bool(_RULE.search(text))


def _positions(part: Part) -> list[Part]:
    """Long text with a short question before or behind it, or an instruction and a colon in front of it."""
    text = part.text
    if stamp := _STAMP.match(text):
        text = text[stamp.end() :]
        part = part._replace(text=text)
    words = part._replace(reason=part.reason or "position")
    if _ruled(text) and len(sections := [each.strip() for each in _RULE.split(text) if each.strip()]) > 1:
        # Rules set the material apart from what is asked of it, before it or after it.
        chosen = sections.pop(0 if asks(sections[0]) else -1)
        return [*_positions(words._replace(text=chosen)), Part("material", "\n\n".join(sections), "rules")]
    if len(text) < SHORT:
        return [part]
    if 0 < (colon := text.find(":", 0, 200)) < len(text) - SHORT and works_on_text(text[:colon]):
        return [words._replace(text=text[: colon + 1]), Part("material", text[colon + 1 :].strip(), "position")]
    if (
        any(mark in text for mark in _QUOTE_MARKS)
        and (pasted := _PASTED.search(text))
        and len(pasted[0]) > len(text) / 2
    ):
        around = f"{text[: pasted.start()].strip()}\n{text[pasted.end() :].strip()}".strip()
        return [words._replace(text=around), Part("material", pasted[0], "quote marks")] if around else [part]
    paragraphs = [each for each in text.split("\n\n") if each.strip()]
    room = min(ASKED, int(len(text) * ASKED_SHARE))
    opens, closes = (len(each) <= room and asks(each) for each in (paragraphs[0], paragraphs[-1]))
    if len(paragraphs) < 2 or not (opens or closes):
        return [part]
    middle = "\n\n".join(paragraphs[opens : len(paragraphs) - closes])
    parts = [words._replace(text=paragraphs[0])] if opens else []
    parts += [Part("material", middle, "position")] if middle else []
    return [*parts, words._replace(text=paragraphs[-1])] if closes else parts

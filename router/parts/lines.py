"""Lines and what they belong to: labels, fences, quotations, heads of mails, logs, tables, dates."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

from triton_router.parts.asking import asks_clearly, works_on_text
from triton_router.parts.part import Kind
from triton_router.parts.shapes import DATES, MAIL, ShapeTable, name_of, names_speech, names_text, reading_by_name

# Labels are no longer than this, colon included.
LABEL = 50
_LOG = (
    r"\[?(?:\d{2,4}[-/.]\d\d[-/.]\d{2,4}[T ]\d\d:\d\d|\d\d:\d\d:\d\d[\]., \t])|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\[?(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b[\]: \t]|Traceback \(most|Caused by: "
    r"|[ \t]+(?:at [\w$.<>]+\(|File \"[^\"\n]+\", line \d)|[ \t]*\.\.\. \d+ more|\[[ \t]*\d+\.\d+\] "
    r"|[IWEF]\d{4} \d\d:\d\d|diff --git |@@ -\d|(?:---(?![^\n]*-\n)|\+\+\+) [\w./-]+/"
)
_LOG_LINES = re.compile(rf"(?:\n(?:{_LOG})[^\n]*)++")
# How lines begin that may be more than text. All others are passed over at the speed of the engine, which looks for the
# line end in front.
_LOOKS = {
    "log": _LOG,
    "fence": r" *(?:```|(?:~~~|\"\"\"|''')[ \t]*(?=\n))",
    "quote": ">",
    "table": r"\| ",
    # Not the items of a list: "- Start the server" is the person's.
    "mark": r"[=#<\[_~{【■□◆◇▼]|[-*](?! (?!(?:BEGIN|START)\b))",
    "mail": r"(?:[Oo]n|[Aa]m|[Ll]e|[Ee][lm]|[Ii]l|[Oo]p|在)[^\n]{6,180}+(?<=[:：])",
    # Neither assignments nor calls, which are code.
    "name": r"[^\n:：{}=;(]{0,49}+(?:(?<= )\([^\n:：{}=;(]{0,49}+)?[:：]",
}
_BLANK = {"blank": r"[^\S\n]*(?=\n)"}


def _looking(looks: dict[str, str]) -> re.Pattern[str]:
    # The name behind its look: the engine tells most lines apart by the first letter of a look.
    return re.compile(rf"\n(?:{'|'.join(f'(?:{look})(?P<{name}>)' for name, look in looks.items())})")


_NOTABLE, _NOTABLE_OR_BLANK = _looking(_LOOKS), _looking(_BLANK | _LOOKS)
_FENCE_ENDS = {fence: re.compile(rf"\n *{fence}") for fence in ("```", "~~~", '"""', "'''")}
# A list or a fence: what ends with the next blank line behind it.
_BLOCK = re.compile(r"[ \t]*(?:[-*\u2022][ \t]|\d{1,3}[.)][ \t]|```)")
# In capitals, of something, or between marks: "- Start the server" and "## Start here" are the person's.
_BEGIN = re.compile(
    r"[-=#*<>\[_~]+ ?(?:BEGIN|START)\b|[-=*#<>\[_~]{2,} ?(?:[Bb]egin(?:ning)?|[Ss]tart) of\b"
    r"|[-=#<>\[_~]{2,} ?(?:[Bb]egin|[Ss]tart)\b[^.?!]*[-=#<>\]_~]$"
)
_END = re.compile(r"\n(?:[-=#*<>\[_~]+ ?(?:/|END\b|STOP\b|FINISH)|[-=#*<>\[_~]{2,} ?(?:[Ee]nd|[Ss]top|[Ff]inish)\b)")
_ASKED = re.compile(
    r"(?:the )?(?:user|customer|person|client|visitor|caller|guest|reader|member|employee|colleague|presenter|learner)"
    r"(?:'s)? (?:asks?|asked|writes|wrote|says|said|wants|types|typed)$",
    re.I,
)
# A name between marks: `[[ ## question ## ]]`, `=== Message ===`, `[User]`, 【提问】.
# Behind brackets its text may follow.
_TITLE = re.compile(
    r"(?:[-=~*_<{#]{2,}|\[\[[ #]*) ?([^\W\d_][^\n\[\]{}<>=~*#]{0,38}?)[ :]*(?:[-=~*_>}#]{2,}|[ #]*\]\])$"
    r"|【([^】\n]{1,30})】[:：]?|\[([^\W\d_][^\[\]\n]{0,38})\](?!\():?|[■□◆◇▼] ?([^\W\d_][^\n。?!？！]{0,28})$"
)
_DECORATIONS = frozenset("-=~*_<{#[【■□◆◇▼")
_STYLE = re.compile(r"[#=~*_<{【\[■□◆◇▼]+|-{2,}")
# The value of a field in JSON. A line of a record, and one of a table with a name in front.
_JSON_STRING = re.compile(r'("(?:[^"\\]|\\.)*"),?$')
_FIELD = re.compile(r"[^\n:：]{1,45}[:：] ?[^\n]{0,60}$")
_ROW = re.compile(r"\| +([^|\n]{1,40}?) +\| +([^|\n]+?) +\|$")
_NUMBERED = re.compile(r"[\[(#]?\d{1,3}[\])]?$")
_MAIL_HEAD = re.compile(
    r"-{2,}\s*(?:original message|forwarded message|weitergeleitete nachricht|mensaje original|message d'origine)\b"
    r"|(?:begin forwarded message|anfang der weitergeleiteten|début du message|inicio del mensaje reenviado)\b"
    r"|(?:on|am|le|el|il|op|em)\b.{6,120}\b(?:wrote|schrieb|a écrit|escribió|ha scritto|schreef|escreveu)\b.{0,40}:$"
    r"|在.{4,80}写道[:：]$",
    re.IGNORECASE,
)
_QUOTE_SOON = re.compile(r"(?:\n(?!>)[^\n]*){0,2}\n>")
# What stands behind a name whose text begins on the next line, in YAML.
_BLOCK_MARKS = frozenset({"|", ">", "|-", ">-"})
# Directions of a program that reads mails: the person's words are in the mail.
_ABOUT_MAIL = re.compile(r"\b(?:e-?mail|mail|message|letter|nachricht|correo|mensaje|courriel)s?\b|邮件", re.IGNORECASE)
_REFERENCE = re.compile(r"\[(?:\w{3,9} ?)?\d{1,3}\][ .:)]?")
Run = tuple[Kind, str, list[str]]


def runs(text: str, shapes: ShapeTable) -> list[Run]:
    """Lines that belong together, with their kind and the reason. A label rules until the next, or a blank line where
    its text stands behind it on its line."""
    kind: Kind = "words"
    reason = style = ""
    paragraph = has_question = has_context = logged = False
    closes, record, began = True, False, 0
    read: list[Run] = [(kind, reason, [])]
    at, end = 0, len(text) + 1
    text = f"\n{text}\n"

    def put(kind: Kind, reason: str, lines: str) -> None:
        if read[-1][0] != kind or read[-1][1] != reason:
            read.append((kind, reason, []))
        read[-1][2].append(lines)

    def put_text(lines: str) -> None:
        put(*(("material", "log") if logged and kind == "words" else (kind, reason)), lines)

    while at < end:
        notable = (_NOTABLE_OR_BLANK if paragraph or logged else _NOTABLE).search(text, at)
        if notable is None:
            put_text(text[at + 1 : end])
            break
        start, look = notable.start(), notable.lastgroup
        if at < start:
            put_text(text[at + 1 : start])
        at = text.find("\n", start + 1)
        line = text[start + 1 : at]
        first = line[:1]
        if look == "blank":
            if paragraph and kind != "words":
                kind, reason, paragraph = "words", "", False
            logged = logged and line == " "  # an empty line of a diff
            put(kind, reason, line)
        elif look == "log" and kind == "words" and (log := _LOG_LINES.match(text, start)):
            logged = True  # until a blank line
            at = log.end()
            put("material", "log", text[start + 1 : at])
        elif look == "fence":
            closing = _FENCE_ENDS[line.lstrip(" ")[:3]].search(text, at)
            at = text.find("\n", closing.start() + 1) if closing else end
            put(*(("material", "fence") if kind == "words" else (kind, reason)), text[start + 1 : at])
        elif look == "quote":
            put("context", "quote", line)
        elif look == "table" and kind == "words":
            row = _ROW.match(line)
            says = row is not None and row[2].count(" ") > 2 and names_text(row[1])
            put(*(("words", f"label {row[1]}", row[2]) if row and says else ("material", "table", line)))
        elif look == "mark" and kind == "words" and closes and _BEGIN.match(line):
            closing = _END.search(text, at)
            closes = closing is not None
            at = text.find("\n", closing.start() + 1) if closing else at
            put(*(("context", "marks") if closes else (kind, reason)), text[start + 1 : at])
        elif label := _label(line, shapes):
            reading, name, value = label
            if reading == "line" and heads_mail(name, text[at + 1 : at + 600]) and (front := _own(read)):
                if _ABOUT_MAIL.search(front) and "?" not in front and not works_on_text(front):
                    read[:] = [("template", "directions", each[2]) if each[0] == "words" else each for each in read]
                    put("context", f"label {name}", line)
                else:
                    at = end
                    put("context", "mail", text[start + 1 : end])
            elif reading == "line":
                put("context", f"label {name}", line)
            elif has_question and has_context and reading == "context" and _style(line) != style:
                put(kind, reason, line)  # the question itself speaks of its context
            else:
                has_context = has_context or (reading == "context" and not has_question)
                has_question = has_question or reading == "words"
                record, began = bool(value) and _FIELD.match(_line_before(text, start)) is not None, start
                kind, reason = reading, f"{'title' if first in _DECORATIONS and _style(line) else 'label'} {name}"
                style = _style(line) if reading == "words" else ""
                if reading == "words":
                    read.append((kind, reason, []))  # even if the label before is the same
                if reading == "words" and (string := _JSON_STRING.match(value)):
                    put(kind, reason, _decoded(string[1]))
                    kind, reason, style = "context", "label", ""
                    continue
                value = "" if value in _BLOCK_MARKS else value
                paragraph = reading in ("context", "history") and (bool(value) or bool(_BLOCK.match(text, at + 1)))
                if not value and reading != "context":
                    put("template", "heading", line)
                else:
                    put(kind, reason, value if reading == "words" else line)
        elif style and first == style[0] and kind == "words" and _style(line) == style and (name := _title(line)):
            kind, reason, style, paragraph = "context", f"label {name}", "", False  # a section of another name
            put(kind, reason, line)
        elif look == "name" and kind == "words" and reason and _ends_words(text, line, began, record):
            kind, reason, style, paragraph = "context", "label", "", record
            put(kind, reason, line)
        elif first == "#" and kind == "context" and line.lstrip("#")[:1] == " ":
            kind, reason, paragraph = "words", "", False  # the next section
            put(kind, reason, line)
        elif kind == "words" and len(line) < 200 and (first == "-" or line[-1] in ":：") and _MAIL_HEAD.match(line):
            quoted = _QUOTE_SOON.match(text, at)
            # A mail with nothing of the person's in front of it has the person's words behind it, or is theirs.
            if _own(read) and (not quoted or first == "-"):
                at = end
            put("context", "mail", text[start + 1 : at])
        else:
            put_text(line)
    return read


def _decoded(string: str) -> str:
    """A string of JSON as it was written; as it stands where it only looks like one: "\\alpha"."""
    try:
        return str(json.loads(string))
    except ValueError:
        return string[1:-1]


def _line_before(text: str, start: int) -> str:
    return text[text.rfind("\n", 0, start) + 1 : start]


def _ends_words(text: str, line: str, began: int, record: bool) -> bool:
    """Whether ``line`` ends the words that a label names: the next field of a ``record``, or a label of a template.

    A template's label stands in front of the words too, in its description or in an example.
    """
    if record and _FIELD.match(line) and not asks_clearly(line):
        return True
    name = line[: line.replace("：", ":").index(":") + 1]
    return text.find(f"\n{name}", 0, began) >= 0


def _own(read: Sequence[Run]) -> str:
    """The person's words so far."""
    return "\n".join(line for kind, _, lines in read if kind == "words" for line in lines).strip()


def heads_mail(name: str, below: str) -> bool:
    """Whether a line begins the head of a mail: `From:` with another such line soon ``below`` it."""
    return name_of(name) in ("from", "von") and any(
        name_of(line.partition(":")[0]) in MAIL and ":" in line for line in below.split("\n", 3)[:3]
    )


def _style(line: str) -> str:
    """The marks that a title begins with: the next line that begins and looks so begins another section."""
    match = _STYLE.match(line)
    return match[0] if match else ""


def _title(line: str) -> str:
    """The name of a section that ``line`` begins, if it looks as one."""
    if line[0] == "#":
        name = line.strip("# \t")
        return name if len(name) < LABEL and name[-1:] not in ".?!" and line.lstrip("#")[:1] == " " else ""
    match = _TITLE.match(line)
    return next(filter(None, match.groups())).strip() if match else ""


def _label(line: str, shapes: ShapeTable) -> tuple[Kind | Literal["line"], str, str] | None:
    """What a line's label says of its section, the label, and what follows it on the line."""
    head = line[:LABEL].replace("：", ":") if not line.isascii() else line[:LABEL]
    colon = head.find(":")
    heading = head.startswith("#")
    if head[0] == "[" and (match := _REFERENCE.match(head)):
        return "context", "number", line[match.end() :].strip()
    if head[0] in _DECORATIONS and (match := _TITLE.match(line)) and not _MAIL_HEAD.match(line):
        name, value = next(filter(None, match.groups())).strip(), line[match.end() :].strip()
        heading = not value
    elif colon < 0:
        if not heading:
            return None
        name, value = line.strip("# *\t"), ""
    else:
        name, value = head[:colon].strip("# *-\t"), line[colon + 1 :].strip("* \t")
    if not name:
        return None
    folded = name_of(name)
    if (folded in DATES and 0 < len(value) < 60) or (folded in MAIL and 0 < len(value) < 160):
        return "line", name, value
    shape = shapes.labels.get(folded)
    if shape is None and not folded[-1].isalpha() and (bare := _NUMBERED.sub("", folded).strip()) != folded:
        shape = shapes.labels.get(bare)
        if shape is None or shape.reading == "words":
            return None
    if shape is not None:
        return shape.reading, name, value
    if not shapes.labels:
        return None
    # An unlisted name has to stand out as one: a heading, alone on its line, or of what an asking person says.
    reading = reading_by_name(name)
    if reading is None or heading or not value or _ASKED.match(name):
        return (reading, name, value) if reading else None
    return ("words", name, value) if reading == "words" and names_speech(name) else None

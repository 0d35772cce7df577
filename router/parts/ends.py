"""What stands at the ends of a message: data of a program, marks of chat templates."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from triton_router.parts.asking import asks, begins_asking
from triton_router.parts.shapes import names_text

# How a letter ends: a formula, and the name and the place of who writes it on a few short lines.
SIGNATURE = 300
_CLOSING = re.compile(
    r"\n[ \t]*(?:(?:(?:with |many )?(?:kind|best|warm)(?:est)? |many )?(?:regards|wishes|thanks|greetings)|sincerely"
    r"|yours \w+"
    r"|cheers|thank you|best|mit freundlichen grüßen|(?:viele|liebe|beste) grüße|cordialement|bien à vous"
    r"|(?:un )?saludos?"
    r"|atentamente|cordiali saluti|atenciosamente)[,.!]?\n{1,2}(?:[^\n?]{1,40}\n){0,4}[^\n?]{1,40}\s*\Z",
    re.IGNORECASE,
)
_TURN = re.compile(r"<\|(?:im_start|start_header_id|start)\|>[ \t]*(system|user|assistant)(?:<\|end_header_id\|>)?\s*")
_TURN_END = re.compile(r"<\|(?:im_end|eot_id|end|begin_of_text|end_of_text)\|>")
_FRONT_MATTER = re.compile(r"---\n(?:[\w -]{1,40}:[^\n]*\n)+---\n")
# The head of a mail as servers pass it on, with where it came from.
_MAIL = re.compile(
    r"(?:[A-Z][\w-]{1,30}: [^\n]*\n(?:[ \t]+[^\n]+\n)*)*"
    r"(?:Received|Message-I[Dd]|Delivered-To|MIME-Version|Return-Path): [^\n]*\n"
    r"(?:(?:[A-Z][\w-]{1,30}:|[ \t]+) ?[^\n]*\n)*(?=\n)"
)
_DECLARATION = re.compile(r"(?:<(?:\?xml|!DOCTYPE)[^>]*>\s*|<!--(?:(?!-->).)*-->\s*)+", re.DOTALL)
# `key=value` in brackets.
_SETTINGS = re.compile(r"\[(?:[^\[\]\n=]{1,200}=){2,30}[^\[\]\n=]{0,200}\]")
# What a chat program puts in front of a line: where, when, by whom, for whom.
_STAMP = re.compile(
    rf"(?:{_SETTINGS.pattern}\s+|\[[^\[\]\n]{{3,60}}\](?!\()\s+(?:[\w.@-]{{2,30}}:\s+)?"
    r"|\(?\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?(?:Z|\)|:|,| -)*\s+"
    r"|[^\n:]{1,50}\b\d?\d:\d\d(?::\d\d)?(?: ?[AaPp][Mm])?\n|<?@[\w.-]{2,40}>?[,:]?\s+)+"
)
# A label that waits for the model's text.
_OPEN_LABEL = re.compile(r"\n[#* ]{0,5}[A-Z]\w+(?: \w+){0,2}\**:\**\s*\Z")
_LABEL = re.compile(r"#{1,6} |[^\W\d_][\w '\u2019./()@&-]{0,48}[:：][ \t]+(?=\S)")
_DOUBLED = re.compile(r"([<{\[])\1([/#]?)(\w[\w.-]{0,40})([>}\]])\4")


def stamp_of(text: str) -> str:
    """What stands in front of a message on its line: a date, a channel, a name in brackets, a mention."""
    match = _STAMP.match(text)
    return match[0] if match and match.end() < len(text) else ""


def caption_of(text: str) -> str:
    """What a program puts in front of a person's words on their line: a stamp, or a name with a colon."""
    if stamp := stamp_of(text):
        return stamp
    label = _LABEL.match(text)
    return label[0] if label and not begins_asking(label[0]) else ""


def turns_as_labels(text: str) -> str:
    """``text`` with the marks of models' chat templates as labels, and tags in doubled brackets as tags."""
    # A single letter is looked for ten times as fast as two.
    if any(mark in text and f"{mark}{mark}/" in text for mark in "<{["):
        text = _DOUBLED.sub(lambda match: f"<{'/' if match[2] == '/' else ''}{match[3]}>", text)
    if "|" not in text or "<|" not in text:
        return text
    return _TURN_END.sub("\n", _TURN.sub(lambda match: f"\n{match[1].capitalize()}:\n", text))


def data_apart(text: str) -> tuple[str, list[str]]:
    """``text`` without data at its ends, and these.

    Data are JSON, YAML between rules, a signature, a label that waits for text.
    """
    data = []
    rest = text
    if rest.startswith("---\n") and (front := _FRONT_MATTER.match(rest)):
        data.append(front[0])
        rest = rest[front.end() :]
    elif head := _MAIL.match(rest):
        data.append(head[0])
        rest = rest[head.end() :]
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
    if open_label := _OPEN_LABEL.search(rest, max(0, len(rest) - 50)):
        data.append(open_label[0].strip())
        rest = rest[: open_label.start()]
    rest = _undeclared(rest.rstrip(), data)
    if rest.endswith("]") and _SETTINGS.fullmatch(rest, start := rest.rfind("[")):
        data.append(rest[start:])
        rest = rest[:start]
    if (start := rest.rfind("\n-- \n")) > 0:
        data.append(rest[start:])
        rest = rest[:start]
    if closing := _CLOSING.search(rest, max(0, len(rest) - SIGNATURE)):
        data.append(closing[0])
        rest = rest[: closing.start()]
    if rest.strip():
        return rest, data
    spoken = _spoken(text)
    return (spoken, [text]) if spoken else (text, [])


def _undeclared(text: str, data: list[str]) -> str:
    """``text`` without what markup says of itself and comments in it, at both ends; ``data`` gets these."""
    if text.startswith(("<?", "<!")) and (declared := _DECLARATION.match(text)):
        data.append(declared[0])
        text = text[declared.end() :]
    if text.endswith("-->") and (start := text.rfind("<!--")) > 0:
        data.append(text[start:])
        text = text[:start]
    return text


def _spoken(text: str) -> str:
    """What a person says in an object in JSON: the last string that asks, or whose name is a person's."""
    with suppress(ValueError, RecursionError):
        strings = list(_strings(json.loads(text)))
        named = [value for name, value in strings if names_text(name)]
        asking = [value for value in named if asks(value)] or [value for _, value in strings if asks(value)]
        return next(reversed(asking or [value for value in named if " " in value]), "")
    return ""


def _strings(data: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """The strings in ``data`` with the names that they have there."""
    if isinstance(data, str):
        yield name, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _strings(value, key)
    elif isinstance(data, list):
        for value in data:
            yield from _strings(value, name)

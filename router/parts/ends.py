"""What stands in front of a message on its line, and the marks of chat templates."""

from __future__ import annotations

import re

_TURN = re.compile(r"<\|(?:im_start|start_header_id|start)\|>[ \t]*(system|user|assistant)(?:<\|end_header_id\|>)?\s*")
_TURN_END = re.compile(r"<\|(?:im_end|eot_id|end|begin_of_text|end_of_text)\|>")
# `key=value` in brackets.
_SETTINGS = re.compile(r"\[(?:[^\[\]\n=]{1,200}=){2,30}[^\[\]\n=]{0,200}\]")
# What a chat program puts in front of a line: where, when, by whom, for whom.
_STAMP = re.compile(
    rf"(?:{_SETTINGS.pattern}\s+|\[[^\[\]\n]{{3,60}}\](?!\()\s+(?:[\w.@-]{{2,30}}:\s+)?"
    r"|\(?\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?(?:Z|\)|:|,| -)*\s+"
    r"|[^\n:]{1,50}\b\d?\d:\d\d(?::\d\d)?(?: ?[AaPp][Mm])?\n|<?@[\w.-]{2,40}>?[,:]?\s+)+"
)
_DOUBLED = re.compile(r"([<{\[])\1([/#]?)(\w[\w.-]{0,40})([>}\]])\4")


def stamp_of(text: str) -> str:
    """What stands in front of a message on its line: a date, a channel, a name in brackets, a mention."""
    match = _STAMP.match(text)
    return match[0] if match and match.end() < len(text) else ""


def turns_as_labels(text: str) -> str:
    """``text`` with the marks of models' chat templates as labels, and tags in doubled brackets as tags."""
    # A single letter is looked for ten times as fast as two.
    if any(mark in text and f"{mark}{mark}/" in text for mark in "<{["):
        text = _DOUBLED.sub(lambda match: f"<{'/' if match[2] == '/' else ''}{match[3]}>", text)
    if "|" not in text or "<|" not in text:
        return text
    return _TURN_END.sub("\n", _TURN.sub(lambda match: f"\n{match[1].capitalize()}:\n", text))

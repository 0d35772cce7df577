"""The marks of chat templates."""

from __future__ import annotations

import re

_TURN = re.compile(r"<\|(?:im_start|start_header_id|start)\|>[ \t]*(system|user|assistant)(?:<\|end_header_id\|>)?\s*")
_TURN_END = re.compile(r"<\|(?:im_end|eot_id|end|begin_of_text|end_of_text)\|>")
_DOUBLED = re.compile(r"([<{\[])\1([/#]?)(\w[\w.-]{0,40})([>}\]])\4")


def turns_as_labels(text: str) -> str:
    """``text`` with the marks of models' chat templates as labels, and tags in doubled brackets as tags."""
    # A single letter is looked for ten times as fast as two.
    if any(mark in text and f"{mark}{mark}/" in text for mark in "<{["):
        text = _DOUBLED.sub(lambda match: f"<{'/' if match[2] == '/' else ''}{match[3]}>", text)
    if "|" not in text or "<|" not in text:
        return text
    return _TURN_END.sub("\n", _TURN.sub(lambda match: f"\n{match[1].capitalize()}:\n", text))

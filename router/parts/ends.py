"""What stands at the ends of a message: data of a program, marks of chat templates."""

from __future__ import annotations

import json
import re
from contextlib import suppress

_TURN = re.compile(r"<\|(?:im_start|start_header_id|start)\|>[ \t]*(system|user|assistant)(?:<\|end_header_id\|>)?\s*")
_TURN_END = re.compile(r"<\|(?:im_end|eot_id|end|begin_of_text|end_of_text)\|>")
_FRONT_MATTER = re.compile(r"---\n(?:[\w -]{1,40}:[^\n]*\n)+---\n")


def turns_as_labels(text: str) -> str:
    """``text`` with the marks of models' chat templates as labels."""
    if "<<SYS>>" in text:
        text = text.replace("<<SYS>>", "<SYS>").replace("<</SYS>>", "</SYS>")
    if "<|" not in text:
        return text
    return _TURN_END.sub("\n", _TURN.sub(lambda match: f"\n{match[1].capitalize()}:\n", text))


def data_apart(text: str) -> tuple[str, list[str]]:
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

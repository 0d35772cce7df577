"""The command `evaluate-personal`: what the rules for personal data find in labelled texts, and what disguises cost."""

from __future__ import annotations

import argparse
import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from triton_router import personal

_DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]

# What somebody may do to a value that is to pass unseen.
DISGUISES: dict[str, Callable[[str], str]] = {
    "as written": lambda value: value,
    "characters without width": lambda value: "\u200b".join(value),
    "full-width characters": lambda value: re.sub(r"[!-~]", lambda match: chr(ord(match[0]) + 0xFEE0), value),
    "spaces between all characters": lambda value: " ".join(value),
    "dots for spaces and hyphens": lambda value: re.sub(r"[ -]", ".", value),
    "digits in words": lambda value: re.sub(r"\d", lambda match: f" {_DIGITS[int(match[0])]} ", value),
    "turned around": lambda value: value[::-1],
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data", type=Path, required=True, help='JSON lines {"text", "spans": [[start, end, type], ...]}'
    )
    parser.add_argument("--prompts", type=Path, help='JSON lines {"text"} of ordinary prompts')


def run(arguments: argparse.Namespace) -> None:
    rows = _rows(arguments.data)
    print(f"{'type':14} labelled  exact  touched  elsewhere")
    for type, (labelled, exact, touched, elsewhere) in scores(rows).items():
        print(f"{type:14} {labelled:8} {exact:6} {touched:8} {elsewhere:10}")
    clean = [row["text"] for row in rows if not row["spans"]]
    print(f"\ntexts without personal data: {_share(clean)}")
    if arguments.prompts is not None:
        print(f"ordinary prompts: {_share([row['text'] for row in _rows(arguments.prompts)])}")
    print()
    for name, (values, seen) in disguised(rows).items():
        print(f"{name:30} {seen} of {values}")


def scores(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[int, int, int, int]]:
    """By type: labelled spans, those found exactly and at least touched, findings that touch no label of any type."""
    labelled, exact, touched, elsewhere = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for row in rows:
        findings = personal.find(row["text"])
        for start, end, type in row["spans"]:
            same = [each for each in findings if each.type == type]
            labelled[type] += 1
            exact[type] += (start, end, type) in same
            touched[type] += any(each.start < end and start < each.end for each in same)
        for each in findings:
            elsewhere[each.type] += not any(each.start < end and start < each.end for start, end, _ in row["spans"])
    return {type: (labelled[type], exact[type], touched[type], elsewhere[type]) for type in personal.TYPES}


def disguised(rows: Sequence[dict[str, Any]]) -> dict[str, tuple[int, int]]:
    """By disguise: how many values the rules find as written, and of these how many they still see."""
    values = [
        (row["text"][:start], row["text"][start:end], row["text"][end:], type)
        for row in rows
        for start, end, type in row["spans"]
        if any((each.start, each.end, each.type) == (start, end, type) for each in personal.find(row["text"]))
    ]
    return {
        name: (
            len(values),
            sum(type in personal.types(before + hide(value) + behind) for before, value, behind, type in values),
        )
        for name, hide in DISGUISES.items()
    }


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _share(texts: Sequence[str]) -> str:
    count = sum(bool(personal.types(text)) for text in texts)
    return f"{count} of {len(texts)} with a finding ({count / max(len(texts), 1):.1%})"

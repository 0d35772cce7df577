"""Compaction: an agent has its conversation summarised, and goes on with the summary in the conversation's place."""

from __future__ import annotations

import re
from collections.abc import Iterable

from triton_router.parts.part import Kind, Part

REASON = "compaction"
# The marks are among so many first characters.
_READ = 600
# Each begins with a literal, which the engine finds fast. For text in small letters.
_MARKS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    (
        "template",
        re.compile(r"summar(?:y of|i[sz]e) (?:the|this|our) (?:\w+ ){0,2}(?:conversation|chat|session) so far\b"),
    ),
    ("template", re.compile(r"summary (?:\w+ ){0,2}for (?:another|the next) (?:\w+ )?(?:llm|model|agent|assistant)\b")),
    ("context", re.compile(r"continued from (?:a|the) (?:previous|earlier) (?:conversation|chat|session)\b")),
    (
        "context",
        re.compile(r"summary (?:produced|written) by (?:another|the other) (?:\w+ )?(?:llm|model|agent|assistant)\b"),
    ),
)


def compactions(blocks: Iterable[str]) -> list[Part]:
    """The blocks of a message that ask for a summary of the conversation (`template`) or give one (`context`)."""
    parts = []
    for block in blocks:
        head = block[:_READ]
        # Most texts have none of these letters, and looking for them is cheaper.
        if "ummar" not in head and "continued from" not in head:
            continue
        folded = head.casefold()
        if kind := next((kind for kind, mark in _MARKS if mark.search(folded)), None):
            parts.append(Part(kind, block, REASON))
    return parts


def asks_for_summary(parts: Iterable[Part]) -> bool:
    return any(part.reason == REASON and part.kind == "template" for part in parts)

"""Compaction: an agent has its conversation summarised, and goes on with the summary in the conversation's place."""

from __future__ import annotations

import re
from collections.abc import Iterable

from triton_router.parts.part import Part

REASON = "compaction"
# The marks are among so many first characters.
_READ = 1_000
_ASKS = re.compile(
    r"\bsummar(?:y of|i[sz]e) (?:the|this|our) (?:\w+ ){0,2}(?:conversation|chat|session) so far\b"
    r"|\bsummary (?:\w+ ){0,2}for (?:another|the next) (?:\w+ )?(?:llm|model|agent|assistant)\b",
    re.I,
)
_GIVES = re.compile(
    r"\bcontinued from (?:a|the) (?:previous|earlier) (?:conversation|chat|session)\b"
    r"|\bsummary (?:produced|written) by (?:another|the other|a previous) (?:\w+ )?(?:llm|model|agent|assistant)\b",
    re.I,
)


def compactions(blocks: Iterable[str]) -> list[Part]:
    """The blocks of a message that ask for a summary of the conversation (`template`) or give one (`context`)."""
    parts = []
    for block in blocks:
        head = block[:_READ]
        # Most texts have none of these letters, and looking for them is cheaper.
        if "ummar" not in head and "continued" not in head:
            continue
        if _ASKS.search(head):
            parts.append(Part("template", block, REASON))
        elif _GIVES.search(head):
            parts.append(Part("context", block, REASON))
    return parts


def asks_for_summary(parts: Iterable[Part]) -> bool:
    return any(part.reason == REASON and part.kind == "template" for part in parts)

"""Candidates compared by one factor after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from triton_router.config.selection import Priority


class Compared(Protocol):
    """A candidate with ``ratios`` to the best one, by factor, in [0, 1]. ``behind`` is the factor in which it falls
    back, ``None`` for the best; ``score`` says how late."""

    ratios: dict[str, float]
    score: float | None
    behind: str | None


def rank(candidates: Sequence[Compared], priorities: Sequence[Priority]) -> None:
    """Set scores: 1 for those that are near the best of the others that are left, in each of ``priorities``."""
    left = list(candidates)
    for place, priority in enumerate(priorities):
        ratios = [each.ratios.get(priority.factor, 1.0) for each in left]
        least = _least(max(ratios), priority)
        for each, ratio in zip(left, ratios, strict=True):
            if ratio < least:
                each.behind, each.score = priority.factor, place / (len(priorities) + 1)
        left = [each for each, ratio in zip(left, ratios, strict=True) if ratio >= least]
    for each in left:
        each.behind, each.score = None, 1.0


def _least(best: float, priority: Priority) -> float:
    """The least ratio within the tolerance, which is one of values: those of quality grow with the ratio, all others
    are its reciprocal."""
    tolerance = priority.tolerance
    least = best * (1 - tolerance) if priority.factor == "quality" else best / (1 + tolerance)
    return least - 1e-9

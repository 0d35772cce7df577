"""Picking one decision among those that matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triton_router.config.schema import Decision
from triton_router.decisions.rules import Verdict, evaluate, fails
from triton_router.signals import Evaluations


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision that won, if any, and the verdict on each decision in declared order.

    ``unsettled`` could have won, is unknown, and says that the request fails then.
    """

    decision: Decision | None
    confidence: float
    verdicts: tuple[Verdict, ...]
    unsettled: Decision | None = None


def choose(decisions: Sequence[Decision], evaluations: Evaluations, strategy: str) -> Choice:
    """Evaluate every decision and pick one.

    The lowest tier with a match counts alone. In it,
    ``priority``: the highest priority wins. ``confidence``: the surest wins, then the highest priority. The first
    declared wins what is still equal. A decision whose verdict is unknown does not match.
    """
    verdicts = tuple(evaluate(decision.rules, evaluations) for decision in decisions)
    best: int | None = None
    for index, verdict in enumerate(verdicts):
        if verdict.matched and (best is None or _rank(index, decisions, verdicts, strategy)
                                > _rank(best, decisions, verdicts, strategy)):  # fmt: skip
            best = index
    failing = (index for index, verdict in enumerate(verdicts) if fails(verdict))
    first = next((each for each in failing if best is None or _comes_first(each, best, decisions, strategy)), None)
    unsettled = decisions[first] if first is not None else None
    if best is None:
        return Choice(None, 0.0, verdicts, unsettled)
    return Choice(decisions[best], verdicts[best].confidence, verdicts, unsettled)


def _comes_first(index: int, other: int, decisions: Sequence[Decision], strategy: str) -> bool:
    """Whether a decision would win over another one if it matched, or might where the surest wins."""
    one, two = decisions[index], decisions[other]
    if strategy == "confidence":
        return one.tier <= two.tier
    return (one.tier, -one.priority, index) < (two.tier, -two.priority, other)


def _rank(
    index: int, decisions: Sequence[Decision], verdicts: tuple[Verdict, ...], strategy: str
) -> tuple[float, float, float]:
    tier, priority = -float(decisions[index].tier), float(decisions[index].priority)
    return (tier, verdicts[index].confidence, priority) if strategy == "confidence" else (tier, priority, 0.0)

"""Picking one decision among those that matched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from triton_router.config.schema import Decision
from triton_router.decisions.rules import Verdict, compiled, fails, may_fail
from triton_router.signals import Evaluations


@dataclass(slots=True)
class Choice:
    """The decision that won, if any, and the verdict on each decision in declared order.

    ``unsettled`` could have won, is unknown, and says that the request fails then.
    """

    decision: Decision | None
    confidence: float
    verdicts: tuple[Verdict, ...]
    unsettled: Decision | None = None


class Choosing:
    """The choice among ``decisions``, whose rules are compiled. Without other state.

    The lowest tier with a match counts alone. In it,
    ``priority``: the highest priority wins. ``confidence``: the surest wins, then the highest priority. The first
    declared wins what is still equal. A decision whose verdict is unknown does not match.
    """

    def __init__(self, decisions: Sequence[Decision], strategy: str) -> None:
        self._decisions, self._strategy = decisions, strategy
        self._rules = [compiled(decision.rules) for decision in decisions]
        self._failing = [index for index, decision in enumerate(decisions) if may_fail(decision.rules)]

    def __call__(self, evaluations: Evaluations) -> Choice:
        """Evaluate every decision and pick one."""
        verdicts = tuple([rule(evaluations) for rule in self._rules])
        best: int | None = None
        for index, verdict in enumerate(verdicts):
            if verdict.matched and (best is None or self._rank(index, verdicts) > self._rank(best, verdicts)):
                best = index
        unsettled = self._unsettled(best, verdicts) if self._failing else None
        if best is None:
            return Choice(None, 0.0, verdicts, unsettled)
        return Choice(self._decisions[best], verdicts[best].confidence, verdicts, unsettled)

    def _unsettled(self, best: int | None, verdicts: Sequence[Verdict]) -> Decision | None:
        failing = (index for index in self._failing if fails(verdicts[index]))
        first = next((each for each in failing if best is None or self._comes_first(each, best)), None)
        return self._decisions[first] if first is not None else None

    def _comes_first(self, index: int, other: int) -> bool:
        """Whether a decision would win over another one if it matched, or might where the surest wins."""
        one, two = self._decisions[index], self._decisions[other]
        if self._strategy == "confidence":
            return one.tier <= two.tier
        return (one.tier, -one.priority, index) < (two.tier, -two.priority, other)

    def _rank(self, index: int, verdicts: Sequence[Verdict]) -> tuple[float, float, float]:
        decision = self._decisions[index]
        tier, priority = -float(decision.tier), float(decision.priority)
        return (tier, verdicts[index].confidence, priority) if self._strategy == "confidence" else (tier, priority, 0.0)


def choose(decisions: Sequence[Decision], evaluations: Evaluations, strategy: str) -> Choice:
    """:class:`Choosing`, once."""
    return Choosing(decisions, strategy)(evaluations)

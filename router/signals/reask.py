"""Reask signals: the user repeats a question, so the last answer did not help."""

from __future__ import annotations

from collections.abc import Sequence

from triton_router.config.signals import ReaskSignal
from triton_router.signals.contract import (
    ENCODER,
    Evaluation,
    Evaluations,
    Needs,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)

_OWN = ("own",)


class Reasks(SignalKind[ReaskSignal]):
    """Compares this turn with those before. A conversation with fewer turns than a signal looks back does not match."""

    SETTINGS = ReaskSignal

    def __init__(self, signals: Sequence[ReaskSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        turns = max((signal.lookback_turns for signal in signals), default=0)
        # The last turn alone: with the words that it goes on from it would be like them.
        self.needs = Needs(embedding=True, earlier=turns, readings=(_OWN,))

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        if results.encoding is None:
            return {}
        own = results.embedding(_OWN)
        similarities = [float(turn @ own) for turn in results.encoding.beside] if own is not None else []
        ms = results.took(ENCODER)
        return {key: _evaluated(signal, similarities, ms) for key, signal in zip(self.keys, self.signals, strict=True)}


def _evaluated(signal: ReaskSignal, similarities: list[float], ms: float) -> Evaluation:
    if len(similarities) < signal.lookback_turns:
        return Evaluation(False, 0.0, signal.threshold, ms)
    least = min(similarities[: signal.lookback_turns])
    return Evaluation(least >= signal.threshold, min(max(least, 0.0), 1.0), signal.threshold, ms)

"""Reask signals: the user repeats a question, so the last answer did not help."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from triton_router.config.signals import ReaskSignal
from triton_router.dialects import ModelRequest
from triton_router.signals import UNKNOWN, Evaluation

TYPE = "reask"

Vector = NDArray[np.float32]


class ReaskRules:
    """Evaluates reask signals on the embeddings of this turn and of those before it."""

    def __init__(self, signals: Sequence[ReaskSignal]) -> None:
        self._signals = tuple(signals)
        self._turns = max((signal.lookback_turns for signal in signals), default=0)

    def earlier(self, request: ModelRequest) -> list[str]:
        """What the user said before the last turn, newest first: as many turns as the signals look back."""
        if not self._turns:
            return []
        said = [turn.text for turn in request.turns() if turn.role == "user"]
        return [text for text in reversed(said[:-1]) if text.strip()][: self._turns]

    def evaluate(
        self, embedding: Vector | None, earlier: Sequence[Vector] | None, ms: float = 0.0
    ) -> dict[tuple[str, str], Evaluation]:
        """``embedding`` FP32 [dimension] of this turn, ``earlier`` of those before, newest first, all of unit length.

        A conversation with fewer turns than a signal looks back does not match it.
        """
        if embedding is None or earlier is None:
            return {(TYPE, signal.name): UNKNOWN for signal in self._signals}
        similarities = [float(turn @ embedding) for turn in earlier]
        return {(TYPE, signal.name): _evaluated(signal, similarities, ms) for signal in self._signals}


def _evaluated(signal: ReaskSignal, similarities: list[float], ms: float) -> Evaluation:
    if len(similarities) < signal.lookback_turns:
        return Evaluation(False, 0.0, signal.threshold, ms)
    least = min(similarities[: signal.lookback_turns])
    return Evaluation(least >= signal.threshold, min(max(least, 0.0), 1.0), signal.threshold, ms)

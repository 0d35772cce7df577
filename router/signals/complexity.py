"""Complexity signals: whether a prompt is closer to hard examples or to easy ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from triton_router.config.signals import ComplexitySignal
from triton_router.signals import UNKNOWN, Evaluation

TYPE = "complexity"
LEVELS = ("hard", "medium", "easy")

Vector = NDArray[np.float32]


class ComplexityRules:
    """Evaluates complexity signals, each at three levels, against FP32 [dimension] ``embeddings`` by text.

    The margin is the largest similarity to a hard example minus the largest to an easy one; over the threshold the
    prompt is hard, under its negative easy, else medium. ``measure`` is the margin.
    """

    def __init__(self, signals: Sequence[ComplexitySignal], embeddings: Mapping[str, Vector]) -> None:
        self._signals = tuple(signals)
        self._sides = {
            signal.name: tuple(
                np.stack([embeddings[text] for text in side.candidates]) for side in (signal.hard, signal.easy)
            )
            for signal in signals
            if all(text in embeddings for text in texts(signal))
        }

    def evaluate(self, embedding: Vector | None, ms: float = 0.0) -> dict[tuple[str, str], Evaluation]:
        """``embedding`` of the prompt, FP32 [dimension] of unit length; ``None`` if there is none."""
        found: dict[tuple[str, str], Evaluation] = {}
        for signal in self._signals:
            sides = self._sides.get(signal.name)
            if embedding is None or sides is None:
                found |= {(TYPE, f"{signal.name}:{level}"): UNKNOWN for level in LEVELS}
                continue
            hard, easy = (float((side @ embedding).max()) for side in sides)
            found |= _levels(signal, hard - easy, ms)
        return found


def texts(signal: ComplexitySignal) -> tuple[str, ...]:
    """The texts whose embeddings the signal needs."""
    return (*signal.hard.candidates, *signal.easy.candidates)


def _levels(signal: ComplexitySignal, margin: float, ms: float) -> dict[tuple[str, str], Evaluation]:
    threshold = signal.threshold
    level = "hard" if margin > threshold else "easy" if margin < -threshold else "medium"
    # A margin is no probability; what it came to is certain.
    return {
        (TYPE, f"{signal.name}:{each}"): Evaluation(each == level, float(each == level), threshold, ms, margin)
        for each in LEVELS
    }

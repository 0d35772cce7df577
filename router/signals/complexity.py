"""Complexity signals: whether a prompt is closer to hard examples or to easy ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triton_router.config.plain import SIGNALS, at, items
from triton_router.config.report import Report
from triton_router.config.signals import ComplexitySignal
from triton_router.signals.contract import (
    ENCODER,
    EncodedTexts,
    Evaluation,
    Evaluations,
    Needs,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)
from triton_router.signals.prototypes import nearness

Vector = NDArray[np.float32]


class Complexities(SignalKind[ComplexitySignal]):
    """Each signal at three levels.

    The margin is how near the prompt is to the hard examples minus how near it is to the easy ones; over the threshold
    it is hard, under its negative easy, else medium. ``measure`` is the margin. Unknown without examples of both.
    """

    SETTINGS = ComplexitySignal

    def __init__(self, signals: Sequence[ComplexitySignal], setup: Setup) -> None:
        super().__init__([each for each in signals if each.hard.candidates and each.easy.candidates], setup)
        self.needs = Needs(
            embedding=True,
            texts=tuple(text for signal in signals for text in _texts(signal)),
            readings=tuple(signal.parts for signal in signals),
        )
        self._sides: dict[str, tuple[Vector, ...]] = {}

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        for path, signal in items(data, (*SIGNALS, ComplexitySignal.LIST)):
            if not (at(signal, "hard", "candidates") and at(signal, "easy", "candidates")):
                message = "without `candidates` of both kinds, `hard` and `easy`, a rule on this signal never matches"
                report.does_nothing(path, ComplexitySignal.TYPE, message, protects=False)

    def prepare(self, texts: EncodedTexts) -> None:
        self._sides = {
            signal.name: tuple(
                np.stack([texts.embeddings[text] for text in side.candidates]) for side in (signal.hard, signal.easy)
            )
            for signal in self.signals
            if all(text in texts.embeddings for text in _texts(signal))
        }

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        if results.encoding is None:
            return {}
        evaluations: dict[tuple[str, str], Evaluation] = {}
        for signal in self.signals:
            if signal.name in self._sides:
                embedding, margin = results.embedding(signal.parts), 0.0
                if embedding is not None:
                    sides = self._sides[signal.name]
                    hard, easy = (nearness(signal.prototype_scoring, side @ embedding) for side in sides)
                    margin = hard - easy
                evaluations |= _levels(signal, margin, results.took(ENCODER))
        return evaluations


def _texts(signal: ComplexitySignal) -> tuple[str, ...]:
    """The texts whose embeddings the signal needs."""
    return (*signal.hard.candidates, *signal.easy.candidates)


def _levels(signal: ComplexitySignal, margin: float, ms: float) -> dict[tuple[str, str], Evaluation]:
    easy_below, hard_above = signal.bounds
    level = "hard" if margin > hard_above else "easy" if margin < easy_below else "medium"
    # A margin is no probability; what it came to is certain.
    return {
        (signal.TYPE, f"{signal.name}:{each}"): Evaluation(each == level, float(each == level), bound, ms, margin)
        for each, bound in (("hard", hard_above), ("medium", hard_above), ("easy", easy_below))
    }

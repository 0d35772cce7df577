"""Preference signals: which kind of request, of some that are given by example, a prompt is nearest to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from triton_router.config.signals import PreferenceSignal
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


class Preferences(SignalKind[PreferenceSignal]):
    """The nearest signal matches, if it is near enough. All are unknown until all sentences are encoded."""

    SETTINGS = PreferenceSignal

    def __init__(self, signals: Sequence[PreferenceSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        self.needs = Needs(
            embedding=True,
            texts=tuple(text for signal in self.signals for text in signal.sentences),
            readings=tuple(signal.parts for signal in self.signals),
        )
        self._sentences: list[Vector] = []

    def prepare(self, texts: EncodedTexts) -> None:
        if all(text in texts.embeddings for text in self.needs.texts):
            self._sentences = [
                np.stack([texts.embeddings[text] for text in signal.sentences]) for signal in self.signals
            ]

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        if results.encoding is None or not self._sentences:
            return {}
        scores = [
            self._score(signal, rows, results) for signal, rows in zip(self.signals, self._sentences, strict=True)
        ]
        best, ms = int(np.argmax(scores)), results.took(ENCODER)
        return {
            key: Evaluation(
                place == best and score >= signal.threshold, min(max(score, 0.0), 1.0), signal.threshold, ms, score
            )
            for place, (key, signal, score) in enumerate(zip(self.keys, self.signals, scores, strict=True))
        }

    def _score(self, signal: PreferenceSignal, sentences: Vector, results: SignalResults) -> float:
        embedding = results.embedding(signal.parts)
        return nearness(signal.prototype_scoring, sentences @ embedding) if embedding is not None else -1.0

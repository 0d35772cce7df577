"""Embedding signals: prompts that mean much the same as one of some sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from triton_router.config.signals import EmbeddingSignal
from triton_router.signals.contract import (
    ENCODER,
    UNKNOWN,
    EncodedTexts,
    Evaluation,
    Evaluations,
    Needs,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)

Vector = NDArray[np.float32]


class Embeddings(SignalKind[EmbeddingSignal]):
    """Compares the prompt with sentences. A signal with a sentence that is not encoded (yet) is unknown."""

    SETTINGS = EmbeddingSignal

    def __init__(self, signals: Sequence[EmbeddingSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        self.needs = Needs(
            embedding=True,
            texts=tuple(text for signal in signals for text in signal.candidates),
            readings=tuple(signal.parts for signal in signals),
        )
        self._candidates: dict[str, Vector] = {}

    def prepare(self, texts: EncodedTexts) -> None:
        self._candidates = {
            signal.name: np.stack([texts.embeddings[text] for text in signal.candidates])
            for signal in self.signals
            if all(text in texts.embeddings for text in signal.candidates)
        }

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        if results.encoding is None:
            return {}
        signals, ms = zip(self.keys, self.signals, strict=True), results.took(ENCODER)
        return {key: self._evaluated(signal, results.embedding(signal.parts), ms) for key, signal in signals}

    def _evaluated(self, signal: EmbeddingSignal, embedding: Vector | None, ms: float) -> Evaluation:
        candidates = self._candidates.get(signal.name)
        if candidates is None:
            return UNKNOWN
        if embedding is None:
            return Evaluation(False, 0.0, signal.threshold, ms)
        similarities = candidates @ embedding
        number = similarities.mean() if signal.aggregation_method == "mean" else similarities.max()
        value = float(number)
        return Evaluation(value >= signal.threshold, min(max(value, 0.0), 1.0), signal.threshold, ms)

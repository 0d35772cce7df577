"""Embedding signals: prompts that mean much the same as one of some sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from triton_router.config.signals import EmbeddingSignal
from triton_router.signals import UNKNOWN, Evaluation

TYPE = "embedding"

Vector = NDArray[np.float32]


class EmbeddingRules:
    """Evaluates embedding signals against ``embeddings``: FP32 [dimension] of unit length by candidate's text.

    A signal with a candidate that has no embedding (yet) is unknown.
    """

    def __init__(self, signals: Sequence[EmbeddingSignal], embeddings: Mapping[str, Vector]) -> None:
        self._signals = tuple(signals)
        self._candidates = {
            signal.name: np.stack([embeddings[text] for text in signal.candidates])
            for signal in signals
            if all(text in embeddings for text in signal.candidates)
        }

    def evaluate(self, embedding: Vector | None, ms: float = 0.0) -> dict[tuple[str, str], Evaluation]:
        """``embedding`` of the prompt, FP32 [dimension] of unit length; ``None`` if there is none."""
        return {(TYPE, signal.name): self._evaluated(signal, embedding, ms) for signal in self._signals}

    def _evaluated(self, signal: EmbeddingSignal, embedding: Vector | None, ms: float) -> Evaluation:
        candidates = self._candidates.get(signal.name)
        if embedding is None or candidates is None:
            return UNKNOWN
        similarities = candidates @ embedding
        number = similarities.mean() if signal.aggregation_method == "mean" else similarities.max()
        value = float(number)
        return Evaluation(value >= signal.threshold, min(max(value, 0.0), 1.0), signal.threshold, ms)

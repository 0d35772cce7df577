"""Embedding signals: prompts that mean much the same as one of some sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triton_router.config.plain import SIGNALS, items
from triton_router.config.report import Report
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
from triton_router.signals.prototypes import nearness

Vector = NDArray[np.float32]


class Embeddings(SignalKind[EmbeddingSignal]):
    """Compares the prompt with sentences. A signal with a sentence that is not encoded (yet) is unknown, as is one that
    reads something else than text, or has no sentence."""

    SETTINGS = EmbeddingSignal

    def __init__(self, signals: Sequence[EmbeddingSignal], setup: Setup) -> None:
        super().__init__([each for each in signals if each.candidates and each.query_modality == "text"], setup)
        self.needs = Needs(
            embedding=True,
            texts=tuple(text for signal in self.signals for text in _texts(signal)),
            readings=tuple(signal.parts for signal in self.signals),
        )
        self._sides: dict[str, tuple[Vector, Vector | None]] = {}

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        for path, signal in items(data, (*SIGNALS, EmbeddingSignal.LIST)):
            modality = signal.get("query_modality") or "text"
            reads = "no `candidates`" if modality == "text" else f"`{modality}`, which is not read in this version"
            if modality != "text" or not signal.get("candidates"):
                message = f"this signal has {reads}: a rule on it never matches"
                report.does_nothing(path, EmbeddingSignal.TYPE, message, protects=False)

    def prepare(self, texts: EncodedTexts) -> None:
        def rows(sentences: Sequence[str]) -> Vector:
            return np.stack([texts.embeddings[text] for text in sentences])

        self._sides = {
            signal.name: (rows(signal.candidates), rows(against) if (against := signal.negative_candidates) else None)
            for signal in self.signals
            if all(text in texts.embeddings for text in _texts(signal))
        }

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        if results.encoding is None:
            return {}
        signals, ms = zip(self.keys, self.signals, strict=True), results.took(ENCODER)
        return {key: self._evaluated(signal, results.embedding(signal.parts), ms) for key, signal in signals}

    def _evaluated(self, signal: EmbeddingSignal, embedding: Vector | None, ms: float) -> Evaluation:
        if (sides := self._sides.get(signal.name)) is None:
            return UNKNOWN
        if embedding is None:
            return Evaluation(False, 0.0, signal.threshold, ms)
        candidates, against = sides
        value = _likeness(signal, candidates @ embedding)
        if against is not None:
            value -= _likeness(signal, against @ embedding)
        return Evaluation(value >= signal.threshold, min(max(value, 0.0), 1.0), signal.threshold, ms)


def _texts(signal: EmbeddingSignal) -> tuple[str, ...]:
    """The texts whose embeddings the signal needs."""
    return (*signal.candidates, *signal.negative_candidates)


def _likeness(signal: EmbeddingSignal, similarities: Vector) -> float:
    if signal.prototype_scoring is not None:
        return nearness(signal.prototype_scoring, similarities)
    return float(similarities.mean() if signal.aggregation_method == "mean" else similarities.max())

"""Jailbreak signals: attempts to lift a model's rules, and instructions smuggled into what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triton_router.config.plain import SIGNALS, items
from triton_router.config.protection import JailbreakSignal
from triton_router.config.report import Report
from triton_router.signals.classifier import places, worst_passage
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

HEAD = "jailbreak"


class Jailbreaks(SignalKind[JailbreakSignal]):
    """Unknown where the head was not asked, or cannot read some of the conversation.

    Raises:
        BundleError: the bundle has no head `jailbreak`, or the head lacks a label.
    """

    SETTINGS = JailbreakSignal

    def __init__(self, signals: Sequence[JailbreakSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        self._columns = {signal.name: _columns(signal, setup) for signal in self.signals if not _compares(signal)}
        compared = [signal for signal in self.signals if _compares(signal)]
        self.needs = Needs(
            passages={HEAD: None} if self._columns else {},
            embedding=bool(compared),
            texts=tuple(text for signal in compared for text in (*signal.jailbreak_patterns, *signal.benign_patterns)),
        )
        self._patterns: dict[str, tuple[NDArray[np.float32], ...]] = {}

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        for path, signal in items(data, (*SIGNALS, JailbreakSignal.LIST)):
            if signal.get("direction") == "response":
                message = "responses are not read in this version; rules on this signal read the request"
                report.does_nothing((*path, "direction"), "direction", message, protects=True)

    def prepare(self, texts: EncodedTexts) -> None:
        self._patterns = {
            signal.name: tuple(
                np.stack([texts.embeddings[text] for text in patterns])
                for patterns in (signal.jailbreak_patterns, signal.benign_patterns)
            )
            for signal in self.signals
            if _compares(signal)
            and all(text in texts.embeddings for text in (*signal.jailbreak_patterns, *signal.benign_patterns))
        }

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        return {
            key: self._contrast(signal, results)
            if _compares(signal)
            else worst_passage(HEAD, self._columns[signal.name], signal.threshold, results)
            for key, signal in zip(self.keys, self.signals, strict=True)
        }

    def _contrast(self, signal: JailbreakSignal, results: SignalResults) -> Evaluation:
        if results.encoding is None or signal.name not in self._patterns:
            return UNKNOWN
        attack, harmless = (float((side @ results.encoding.embedding).max()) for side in self._patterns[signal.name])
        margin = attack - harmless
        matched = margin >= signal.threshold
        return Evaluation(matched, float(matched), signal.threshold, results.took(ENCODER), margin)


def _compares(signal: JailbreakSignal) -> bool:
    return signal.method == "contrastive"


def _columns(signal: JailbreakSignal, setup: Setup) -> list[int]:
    known = setup.labels(HEAD, passages=True)
    # A head may know one kind of attack only; one that knows none protects from nothing.
    labels = [label for label in signal.labels if label in known] or signal.labels
    return places(setup, HEAD, labels, passages=True)

"""Jailbreak signals: attempts to lift a model's rules, and instructions smuggled into what it reads."""

from __future__ import annotations

from collections.abc import Sequence

from triton_router.config.protection import JailbreakSignal
from triton_router.signals.classifier import places, worst_passage
from triton_router.signals.contract import Evaluations, Needs, Setup, SignalInput, SignalKind, SignalResults

HEAD = "jailbreak"


class Jailbreaks(SignalKind[JailbreakSignal]):
    """Unknown where the head was not asked, or cannot read some of the conversation.

    Raises:
        BundleError: the bundle has no head `jailbreak`, or the head lacks a label.
    """

    SETTINGS = JailbreakSignal

    def __init__(self, signals: Sequence[JailbreakSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        known = setup.labels(HEAD, passages=True)
        self._places = []
        for signal in self.signals:
            # A head may know one kind of attack only; one that knows none protects from nothing.
            labels = [label for label in signal.labels if label in known] or signal.labels
            self._places.append(places(setup, HEAD, labels, passages=True))
        self.needs = Needs(passages={HEAD: None})

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        return {
            key: worst_passage(HEAD, columns, signal.threshold, results)
            for key, signal, columns in zip(self.keys, self.signals, self._places, strict=True)
        }

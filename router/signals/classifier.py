"""Classifier signals: labels of any head in the bundle, such as one that an operator tuned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from triton_router.config.heads import ClassifierSignal
from triton_router.config.kinds import Key
from triton_router.config.plain import SIGNALS, items
from triton_router.config.report import Report, nearest
from triton_router.errors import BundleError
from triton_router.signals.contract import (
    ENCODER,
    UNKNOWN,
    Evaluation,
    Evaluations,
    Names,
    Needs,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)


class Classifiers(SignalKind[ClassifierSignal]):
    """Unknown where the head was not asked, or none is named.

    Raises:
        BundleError: the bundle lacks a head or a label, or two signals want one head of different trunks.
    """

    SETTINGS = ClassifierSignal

    def __init__(self, signals: Sequence[ClassifierSignal], setup: Setup) -> None:
        super().__init__([signal for signal in signals if signal.type == "head"], setup)
        trunks: dict[str, str | None] = {}
        self._places = []
        for signal in self.signals:
            if trunks.setdefault(signal.head, signal.model) != signal.model:
                raise BundleError(f"classifier signals read the head `{signal.head}` of one trunk, not of two")
            self._places.append(places(setup, signal.head, signal.labels, signal.model, passages=signal.every_part))
        self.needs = Needs(
            heads={signal.head: signal.model for signal in self.signals if not signal.every_part},
            passages={signal.head: signal.model for signal in self.signals if signal.every_part},
            readings=tuple(signal.parts for signal in self.signals if not signal.every_part),
        )

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        for path, signal in items(data, (*SIGNALS, ClassifierSignal.LIST)):
            if (kind := signal.get("type")) in ("local", "llm"):
                message = f"classifiers of type `{kind}` are not active in this version: a rule on one never matches"
                report.does_nothing((*path, "type"), ClassifierSignal.TYPE, message, protects=False)

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        evaluations: dict[Key, Evaluation] = {}
        for signal, columns in zip(self.signals, self._places, strict=True):
            # First all labels together, then each.
            for key, among in zip(signal.keys, [columns, *([column] for column in columns)], strict=False):
                evaluations[key] = (
                    worst_passage(signal.head, among, signal.threshold, results)
                    if signal.every_part
                    else likely(signal.head, among, signal.threshold, signal.parts, results)
                )
        return evaluations


def places(
    setup: Setup, head: str, labels: Sequence[str], trunk: str | None = None, *, passages: bool = False
) -> list[int]:
    """Where ``labels`` stand in what ``head`` gives; none without encoders. Raises ``BundleError`` for others."""
    available = setup.labels(head, trunk, passages=passages)
    for label in labels if available else ():
        if label not in available:
            hint = f"; did you mean `{close}`?" if (close := nearest(label, available)) else ""
            raise BundleError(f"the head `{head}` has no label `{label}`; it has {', '.join(available)}{hint}")
    return [available.index(label) for label in labels if label in available]


def likely(head: str, columns: Sequence[int], threshold: float, parts: Names, results: SignalResults) -> Evaluation:
    """The probability of the labels at ``columns`` for the ``parts`` of a request; unknown where ``head`` did not say.

    Parts without text do not match.
    """
    if head not in results.heads or not columns:
        return UNKNOWN
    probabilities = results.probabilities(head, parts)
    value = float(probabilities[list(columns)].sum()) if probabilities is not None else 0.0
    return Evaluation(value >= threshold, value, threshold, results.took(ENCODER))


def worst_passage(head: str, columns: Sequence[int], threshold: float, results: SignalResults) -> Evaluation:
    """The most probable passage for the labels at ``columns``; unknown where none matches and some were not read."""
    passages = results.passages.get(head)
    if passages is None or not columns:
        return UNKNOWN
    sums = passages.probabilities[:, list(columns)].sum(axis=1)
    place = int(np.argmax(sums)) if len(sums) else None
    value = float(sums[place]) if place is not None else 0.0
    matched = True if value >= threshold else None if passages.missing else False
    where = passages.where[place] if matched and place is not None else ""
    return Evaluation(matched, value, threshold, results.took(ENCODER), None, where)

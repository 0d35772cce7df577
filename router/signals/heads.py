"""Signals that are a label of one head: `fact_check`, `user_feedback`, `modality`. A head that is not there protects
nobody, so its signals load without it, and are unknown."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from triton_router.config.heads import FactCheckSignal, HeadSignal, ModalitySignal, UserFeedbackSignal
from triton_router.config.plain import SIGNALS, items
from triton_router.config.report import Report, nearest
from triton_router.errors import BundleError
from triton_router.signals.classifier import likely, places
from triton_router.signals.contract import (
    Evaluation,
    Evaluations,
    Needs,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)

log = logging.getLogger(__name__)


class HeadLabels(SignalKind[HeadSignal]):
    """Unknown where the head was not asked, or the bundle lacks it or what a name means.

    Raises:
        BundleError: the head has no such `label`.
    """

    SETTINGS: ClassVar[type[HeadSignal]]

    def __init__(self, signals: Sequence[HeadSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        head = self.SETTINGS.HEAD
        try:
            labels = setup.labels(head)
        except BundleError as error:
            log.warning("signals are unknown: %s", error, extra={"fields": {"type": self.SETTINGS.TYPE}})
            self._columns: dict[str, list[int]] = {}
            return
        self._columns = {signal.name: _columns(signal, labels, setup) for signal in self.signals}
        self.needs = Needs(heads={head: None}, readings=tuple(signal.parts for signal in self.signals))

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        for path, signal in items(data, (*SIGNALS, cls.SETTINGS.LIST)):
            name, description = str(signal.get("name")), signal.get("description")
            if signal.get("label") or name in cls.SETTINGS.MEANING:
                continue
            meant = cls.SETTINGS.meant(name, description if isinstance(description, str) else None)
            if meant:
                report.warning(
                    (*path, "name"), f"`{name}` is taken as the label `{meant[0]}`; set `label` to be certain"
                )
            else:
                hint = f" (`{close}`?)" if (close := nearest(name, cls.SETTINGS.MEANING)) else ""
                message = f"`{name}` is not the name of a label{hint}: give `label`, or a rule on it never matches"
                report.does_nothing((*path, "name"), cls.SETTINGS.TYPE, message, protects=False)

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        return {
            key: likely(signal.HEAD, columns, signal.threshold, signal.parts, results)
            for key, signal in zip(self.keys, self.signals, strict=True)
            if (columns := self._columns.get(signal.name))
        }


class FactChecks(HeadLabels):
    """Prompts that ask for facts which can be checked."""

    SETTINGS = FactCheckSignal


class Modalities(HeadLabels):
    """Prompts that ask for a text, or for an image."""

    SETTINGS = ModalitySignal


class UserFeedbacks(HeadLabels):
    """What the last turn says of the answer before it; there is nothing to say where nobody has answered."""

    SETTINGS = UserFeedbackSignal

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        if any(turn.role == "assistant" for turn in query.request.turns()):
            return super().evaluate(query, results)
        return {
            key: Evaluation(False, 0.0, signal.threshold) for key, signal in zip(self.keys, self.signals, strict=True)
        }


def _columns(signal: HeadSignal, labels: Sequence[str], setup: Setup) -> list[int]:
    """Where the label stands that ``signal`` means among ``labels``, in upper or lower case."""
    if signal.label is not None:
        return places(setup, signal.HEAD, [signal.label])
    folded = [label.casefold() for label in labels]
    meant = next((label for label in signal.meant(signal.name, signal.description) if label in folded), None)
    if meant is None and labels:
        fields = {"type": signal.TYPE, "name": signal.name, "labels": list(labels)}
        log.warning("a signal is unknown: the head has no label that its name means", extra={"fields": fields})
    return [folded.index(meant)] if meant is not None else []

"""Partition signals: of several topics or sentences that match, the surest wins and the others do not match."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from triton_router.config.plain import SIGNALS, items
from triton_router.config.projections import PartitionSignal
from triton_router.config.report import Report
from triton_router.signals.contract import (
    UNKNOWN,
    Evaluation,
    Evaluations,
    SignalInput,
    SignalKind,
    SignalResults,
    certain,
)


class Partitions(SignalKind[PartitionSignal]):
    """The default matches, for certain, where no member does. With an unknown member nobody knows who would win."""

    SETTINGS = PartitionSignal

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        for path, entry in items(data, (*SIGNALS, PartitionSignal.LIST)):
            if entry.get("default") is None:
                report.warning(path, "without `default`, nothing matches if no member does")

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        evaluations: dict[tuple[str, str], Evaluation] = {}
        for signal in self.signals:
            members = [results.evaluations.get((signal.of, member), UNKNOWN) for member in signal.members]
            if all(each.matched is not None for each in members):
                evaluations |= zip(signal.keys, _contest(signal, members), strict=True)
        return evaluations


def _contest(signal: PartitionSignal, members: Sequence[Evaluation]) -> list[Evaluation]:
    contenders = [place for place, each in enumerate(members) if each.matched]
    outcome = [each._replace(matched=False) for each in members]
    if not contenders:
        if signal.default is not None:
            outcome[signal.members.index(signal.default)] = certain(True)
        return outcome
    # The first declared wins a tie.
    winner = max(contenders, key=lambda place: members[place].value)
    value = members[winner].value
    if signal.semantics == "softmax_exclusive" and len(contenders) > 1:
        shares = [math.exp((members[place].value - value) / signal.temperature) for place in contenders]
        value = 1 / sum(shares)
    outcome[winner] = members[winner]._replace(value=value)
    return outcome

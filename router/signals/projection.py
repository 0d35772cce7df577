"""Projection signals: a weighted sum of other signals, and names for ranges of it.

The score is the sum of ``weight * value`` over the inputs. An input that is unknown makes the score unknown, and with
it every output, unless its weight is 0: a score that leaves a part out would be another score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from triton_router.config.kinds import SIGNALS, Key
from triton_router.config.plain import SIGNALS as DECLARED
from triton_router.config.plain import items
from triton_router.config.projections import ProjectionInput, ProjectionOutput, ProjectionSignal
from triton_router.config.report import Report, nearest
from triton_router.config.signals import FOREIGN_TYPES, inactive
from triton_router.signals.contract import (
    UNKNOWN,
    Evaluation,
    Evaluations,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)


class Projections(SignalKind[ProjectionSignal]):
    """``measure`` of an output is the score, ``threshold`` the bound that it is nearest to.

    Raises:
        ValueError: a projection is made of itself.
    """

    SETTINGS = ProjectionSignal

    def __init__(self, signals: Sequence[ProjectionSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        makers = {name: signal for signal in self.signals for _, name in signal.keys}
        made_of = {signal.name: {makers[name].name for of, name in signal.made_of if of == signal.TYPE}
                   for signal in self.signals}  # fmt: skip
        by_name = {signal.name: signal for signal in self.signals}
        try:
            self._ordered = [by_name[name] for name in TopologicalSorter(made_of).static_order()]
        except CycleError as error:
            raise ValueError(f"projections refer to each other in a circle: {' → '.join(error.args[1])}") from error

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        earlier: set[str] = set()
        for path, entry in items(data, (*DECLARED, ProjectionSignal.LIST)):
            for where, output in items(entry, ("outputs",), below=path):
                if (name := str(output.get("name"))) in earlier:
                    report.error((*where, "name"), f"`{name}` is declared twice")
                earlier.add(name)
            for where, each in items(entry, ("inputs",), below=path):
                of = str(each.get("type"))
                if of in FOREIGN_TYPES:
                    if each.get("weight") != 0:
                        inactive(of, (*where, "type"), "outputs of this sum never match", report)
                elif of not in SIGNALS:
                    report.error((*where, "type"), f"no kind of signal is called `{of}`", nearest(of, SIGNALS))

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        evaluations: dict[Key, Evaluation] = {}
        values = {**results.evaluations}
        for signal in self._ordered:
            least, most = _bounds(signal.inputs, values)
            outputs = _outputs(signal, least)
            if least != most:
                # Unknown inputs leave a range: what holds at both ends of it, and between, is known all the same.
                outputs = _certain(signal, outputs, _outputs(signal, most), least, most)
            evaluations |= outputs
            values |= outputs
        return evaluations


def _bounds(inputs: Sequence[ProjectionInput], evaluations: Evaluations) -> tuple[float, float]:
    """The least and the largest score that unknown inputs leave possible; equal where all that weigh are known."""
    least = most = 0.0
    for each in inputs:
        if not each.weight:
            continue
        evaluation = evaluations.get((each.type, each.name), UNKNOWN)
        certain = evaluation.matched is not None
        ends = [_value(each, evaluation)] if certain else _possible(each)
        least += min(each.weight * end for end in ends)
        most += max(each.weight * end for end in ends)
    return least, most


def _possible(source: ProjectionInput) -> list[float]:
    """The ends of what the value of an unknown input can be."""
    match source.value_source:
        case "binary":
            return [source.match, source.miss]
        case "confidence":
            return [0.0, 1.0]
        case _:
            return [-math.inf, math.inf]


def _certain(
    signal: ProjectionSignal, low: dict[Key, Evaluation], high: dict[Key, Evaluation], least: float, most: float
) -> dict[Key, Evaluation]:
    """The outputs on which a range of scores agrees, with the less sure end's value; the score itself stays unknown."""
    evaluations = dict.fromkeys(low, UNKNOWN)
    # An output that holds at neither end may lie between them.
    between = {(signal.TYPE, output.name) for output in signal.outputs if _lies_between(output, least, most)}
    for key in low:
        if low[key].matched == high[key].matched and (low[key].matched or key not in between):
            nearer = min if low[key].matched else max
            end = nearer(low[key], high[key], key=lambda evaluation: evaluation.value)
            evaluations[key] = end._replace(measure=None)
    return evaluations


def _lies_between(output: ProjectionOutput, least: float, most: float) -> bool:
    bounds = (output.gt, output.gte, output.lt, output.lte)
    return any(bound is not None and least <= bound <= most for bound in bounds)


def _value(source: ProjectionInput, evaluation: Evaluation) -> float:
    match source.value_source:
        case "binary":
            return source.match if evaluation.matched else source.miss
        case "confidence":
            return evaluation.value if evaluation.matched else 0.0
        case _:
            return evaluation.value if evaluation.measure is None else evaluation.measure


def _outputs(signal: ProjectionSignal, score: float) -> dict[Key, Evaluation]:
    evaluations: dict[Key, Evaluation] = {}
    first_only, matched_before = signal.method == "threshold_bands", False
    for output in signal.outputs:
        margin, bound = _margin(output, score)
        matched = _within(output, score) and not (first_only and matched_before)
        matched_before = matched_before or matched
        # Within its bounds an output is at least as sure as not; one that another has taken the place of is out.
        sure = 1 / (1 + math.exp(-min(max(signal.calibration.slope * margin, -500.0), 500.0)))
        value = sure if matched else min(sure, 1 - sure)
        evaluations[signal.TYPE, output.name] = Evaluation(matched, value, bound, measure=score)
    return evaluations


def _within(output: ProjectionOutput, score: float) -> bool:
    return (
        (output.gt is None or score > output.gt)
        and (output.gte is None or score >= output.gte)
        and (output.lt is None or score < output.lt)
        and (output.lte is None or score <= output.lte)
    )


def _margin(output: ProjectionOutput, score: float) -> tuple[float, float | None]:
    """How far ``score`` is within the bounds (negative: beyond), and the bound that says so; 1 without bounds."""
    below = [(score - bound, bound) for bound in (output.gt, output.gte) if bound is not None]
    above = [(bound - score, bound) for bound in (output.lt, output.lte) if bound is not None]
    return min([*below, *above], default=(1.0, None))

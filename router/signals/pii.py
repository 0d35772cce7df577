"""PII signals: personal data that has a form, in anything that a model reads."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

from triton_router import personal
from triton_router.config import Config
from triton_router.config.plain import SIGNALS, items
from triton_router.config.protection import PiiSignal
from triton_router.config.report import Report, nearest
from triton_router.signals.contract import Evaluation, Evaluations, Setup, SignalInput, SignalKind, SignalResults
from triton_router.signals.keyword import encodable

_KNOWN = (*personal.TYPES, *personal.WITHOUT_FORM)


class Pii(SignalKind[PiiSignal]):
    """Unknown only where a model gets tokens. ``measure`` counts the types, ``where`` names them and their parts."""

    SETTINGS = PiiSignal

    def __init__(self, signals: Sequence[PiiSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        self._counted = [_counted(signal.pii_types_allowed, signal.pii_types_denied) for signal in self.signals]

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        for path, signal in items(data, (*SIGNALS, PiiSignal.LIST)):
            lists = {key: signal.get(key) or () for key in ("pii_types_allowed", "pii_types_denied")}
            if not all(isinstance(each, list | tuple) for each in lists.values()):
                continue
            for key, named in lists.items():
                for index, each in enumerate(named):
                    if each not in _KNOWN:
                        report.error((*path, key, index), f"no type `{each}`", nearest(str(each), _KNOWN))
                    elif key == "pii_types_denied" and each in personal.WITHOUT_FORM:
                        message = f"`{each}` is not detected: it has no form that a rule could tell"
                        report.error((*path, key, index), message)
            if not _counted(lists["pii_types_allowed"], lists["pii_types_denied"]):
                message = f"nothing that is left can be detected; detected are {', '.join(personal.TYPES)}"
                report.error(path, message)

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        started = perf_counter()
        places: dict[str, list[str]] = {}
        for text, part in query.everything():
            for each in sorted(personal.types(encodable(text))):
                places.setdefault(each, []).append(part)
        ms = (perf_counter() - started) * 1000
        evaluations = {}
        for key, counted in zip(self.keys, self._counted, strict=True):
            there = {each: parts for each, parts in places.items() if each in counted}
            where = "; ".join(f"{each} in {', '.join(dict.fromkeys(parts))}" for each, parts in there.items())
            matched = True if there else None if query.request.has_tokens() else False
            evaluations[key] = Evaluation(matched, float(bool(there)), None, ms, len(there), where)
        return evaluations


def counted_types(config: Config) -> dict[str, frozenset[str]]:
    """The types of personal data that each signal counts, by its name."""
    declared = [signal for signal in config.routing.signals.of("pii") if isinstance(signal, PiiSignal)]
    return {signal.name: _counted(signal.pii_types_allowed, signal.pii_types_denied) for signal in declared}


def _counted(allowed: Sequence[str], denied: Sequence[str]) -> frozenset[str]:
    """The types that match. Who allows dates allows dates of birth."""
    without = {*allowed, *(("DATE_OF_BIRTH",) if "DATE_TIME" in allowed else ())}
    return frozenset(personal.TYPES) - without if not denied else frozenset(personal.TYPES) & set(denied)

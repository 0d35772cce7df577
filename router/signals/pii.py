"""PII signals: personal data that has a form, and names and addresses by a head; in anything that a model reads."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from time import perf_counter
from typing import Any

from triton_router import personal, tagged
from triton_router.config import Config
from triton_router.config.plain import SIGNALS, items
from triton_router.config.protection import PiiSignal
from triton_router.config.report import Report, nearest
from triton_router.errors import BundleError, Unavailable
from triton_router.inference.judged import Judged
from triton_router.jsontext import encodable
from triton_router.personal import Finding
from triton_router.signals.contract import (
    Evaluation,
    Evaluations,
    Needs,
    Setup,
    SignalInput,
    SignalKind,
    SignalResults,
)

_TYPES = (*personal.TYPES, *personal.WITHOUT_FORM)
_MATCHABLE = (*personal.TYPES, *tagged.TYPES)


class Pii(SignalKind[PiiSignal]):
    """Unknown where the head was not asked for types that a signal lists, and where a model gets tokens.

    ``measure`` counts the types, ``where`` names them and their parts.

    Raises:
        BundleError: a signal lists names or addresses, and the bundle has no head for them.
    """

    SETTINGS = PiiSignal

    def __init__(self, signals: Sequence[PiiSignal], setup: Setup) -> None:
        super().__init__(signals, setup)
        self._counted = [_counted(signal.pii_types_allowed, signal.pii_types_denied) for signal in self.signals]
        self._tagger = None
        self._most = setup.config.global_.inference.max_passages
        self._tags: Judged[tuple[tagged.Tag, ...]] = Judged()
        if any(counted & set(tagged.TYPES) for counted in self._counted):
            self._labels = setup.labels(tagged.HEAD, passages=True)
            readers = setup.readers(tagged.HEAD)
            self._tagger = next(iter(readers)) if readers is not None else None
            head = self._tagger.trunk.head(tagged.HEAD) if self._tagger is not None else None
            if head is not None and not head.per_token:
                raise BundleError(f"the head `{tagged.HEAD}` tags no tokens, so it finds neither names nor addresses")
            self.needs = Needs(service=tagged.HEAD)

    @classmethod
    def check(cls, data: Any, report: Report) -> None:
        for path, signal in items(data, (*SIGNALS, PiiSignal.LIST)):
            lists = {key: signal.get(key) or () for key in ("pii_types_allowed", "pii_types_denied")}
            if not all(isinstance(each, list | tuple) for each in lists.values()):
                continue
            if not all(isinstance(each, str) for named in lists.values() for each in named):
                continue
            for key, named in lists.items():
                for index, each in enumerate(named):
                    if each not in _TYPES and key == "pii_types_allowed":
                        message = f"no type `{each}`, so allowing it changes nothing"
                        report.warning((*path, key, index), message, nearest(str(each), _TYPES))
                    elif each not in _TYPES:
                        report.error((*path, key, index), f"no type `{each}`", nearest(str(each), _TYPES))
                    elif key == "pii_types_denied" and each not in _MATCHABLE:
                        message = f"`{each}` is not detected: it has no recognisable form"
                        report.error((*path, key, index), message)
            if not _counted(lists["pii_types_allowed"], lists["pii_types_denied"]):
                message = f"no detectable type is left; detectable types are {', '.join(personal.TYPES)}"
                report.error(path, message)

    async def ask(self, query: SignalInput, results: SignalResults) -> None:
        """Tag what the model reads; windows that were tagged before are known."""
        if query.hurried:
            raise Unavailable("behind")
        began = perf_counter()
        parts = [encodable(text) for text, _ in query.everything()]
        pieces = [[*tagged.windows(part)] for part in parts]
        new = list(dict.fromkeys(each for part in pieces for _, each in part if self._tags.get(each) is None))
        if len(new) > self._most:
            raise Unavailable("long")
        assert self._tagger is not None
        try:
            taggings = await self._tagger.tag(new, tagged.HEAD) if new else []
        finally:
            results.note(tagged.HEAD, began, perf_counter())
        for piece, windows in zip(new, taggings, strict=True):
            self._tags.put(piece, tagged.tags(piece, [tagged.Tagging(*each) for each in windows], self._labels))
        results.tagged = [
            tagged.findings(
                part,
                [
                    tag._replace(start=tag.start + place, end=tag.end + place)
                    for place, piece in windows
                    for tag in self._tags.get(piece) or ()
                ],
            )
            for part, windows in zip(parts, pieces, strict=True)
        ]

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        started = perf_counter()
        places: dict[str, list[str]] = {}
        for number, (text, part) in enumerate(query.everything()):
            text = encodable(text)
            types = personal.types(text)
            if results.tagged is not None:
                types |= {each.type for each in beside(text, personal.find(text), results.tagged[number])}
            for each in sorted(types):
                places.setdefault(each, []).append(part)
        for text, part in query.unbroken():
            for each in sorted(personal.types(encodable(text))):
                places.setdefault(each, []).append(part)
        ms = (perf_counter() - started) * 1000
        evaluations = {}
        for key, counted in zip(self.keys, self._counted, strict=True):
            there = {each: parts for each, parts in places.items() if each in counted}
            where = "; ".join(f"{each} in {', '.join(dict.fromkeys(parts))}" for each, parts in there.items())
            unread = results.tagged is None and not counted.isdisjoint(tagged.TYPES)
            matched = True if there else None if unread or query.request.has_tokens() else False
            evaluations[key] = Evaluation(matched, float(bool(there)), None, ms, len(there), where)
        return evaluations


def beside(text: str, rules: Sequence[Finding], tags: Sequence[Finding]) -> list[Finding]:
    """The ``tags`` up to where a finding of ``rules`` begins: a check digit tells more than a head."""
    ends, left = [rule.end for rule in rules], []
    for tag in tags:
        place = bisect(ends, tag.start)
        end = min(tag.end, rules[place].start) if place < len(rules) else tag.end
        length = len(text[tag.start : end].rstrip())
        if length:
            left.append(tag._replace(end=tag.start + length))
    return left


def counted_types(config: Config) -> dict[str, frozenset[str]]:
    """The types of personal data that each signal counts, by its name."""
    declared = [signal for signal in config.routing.signals.of("pii") if isinstance(signal, PiiSignal)]
    return {signal.name: _counted(signal.pii_types_allowed, signal.pii_types_denied) for signal in declared}


def _counted(allowed: Sequence[str], denied: Sequence[str]) -> frozenset[str]:
    """The types that match. Who allows dates allows dates of birth."""
    without = {*allowed, *(("DATE_OF_BIRTH",) if "DATE_TIME" in allowed else ())}
    return frozenset(personal.TYPES) - without if not denied else frozenset(_MATCHABLE) & set(denied)

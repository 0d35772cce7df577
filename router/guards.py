"""What protection does with a request: refuse it, let only some models see it, mask what it has, screen its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from triton_router import offload
from triton_router.answers import Answer
from triton_router.attempt import UNGUARDED, Guarded
from triton_router.body import LARGE_BYTES, is_large
from triton_router.config.heads import FactCheckSignal
from triton_router.config.plugins import (
    HallucinationPlugin,
    HallucinationSettings,
    ResponseJailbreakPlugin,
    ResponseJailbreakSettings,
    ResponsePiiPlugin,
    ResponsePiiSettings,
)
from triton_router.config.schema import Decision
from triton_router.dialects import ModelRequest
from triton_router.edits import BodyFilter, Chained
from triton_router.errors import Refusal
from triton_router.exchange import Request
from triton_router.grounding import UNVERIFIED, Grounding, Sources
from triton_router.judging import Judged, Judges, withholds
from triton_router.parts import PartReader, Parts
from triton_router.protection import Protection, Screening, Verdict
from triton_router.record import Record
from triton_router.selection import Selection
from triton_router.telemetry import Metrics

if TYPE_CHECKING:
    from triton_router.masking import Mask, Values
    from triton_router.screening import Screen

_SCREENS = (ResponsePiiPlugin, ResponseJailbreakPlugin, HallucinationPlugin)
RequestT = TypeVar("RequestT", ModelRequest, ModelRequest | None)


@dataclass(frozen=True, slots=True)
class AnswerEdits:
    """Makes what changes one response, which ``reads`` reads; see :class:`.usage.Edits`.

    Answers are ``judged`` and ``grounded`` by settings, each with what counts a match.
    """

    reads: type[Answer]
    screens: Sequence[Screen]
    judged: Sequence[tuple[ResponseJailbreakSettings, Callable[[str], None]]]
    judges: Judges
    values: Values | None
    grounded: Sequence[tuple[HallucinationSettings, Callable[[], None]]]
    sources: Sources | None

    @property
    def withholds(self) -> bool:
        """Whether a response that cannot be read is not for the client."""
        return any(each.withholds for each in self.screens) or any(withholds(settings) for settings, _ in self.judged)

    def __call__(self, *, streamed: bool) -> BodyFilter:
        judged = (Judged(self.judges, each, self.reads, on_match, streamed=streamed) for each, on_match in self.judged)
        filters: list[BodyFilter] = [*judged, *(each.screened(self.reads, streamed=streamed) for each in self.screens)]
        if self.values is not None:
            filters.append(self.values.restored(self.reads, streamed=streamed))
        for settings, on_match in self.grounded if self.sources else ():
            assert self.sources is not None
            filters.append(Grounding(self.sources, settings, self.reads, on_match, streamed=streamed))
        return Chained(filters)


class Guards:
    """``select`` chooses one of a decision's models; ``judges`` judge answers."""

    def __init__(self, metrics: Metrics, select: Callable[[Decision], Selection], judges: Judges) -> None:
        self._blocked, self._select, self._screened = metrics.blocked, select, metrics.screened
        self._judges = judges

    def judge(self, record: Record, protection: Protection) -> None:
        """Note what ``protection`` says. Raises ``Refusal``."""
        signals, choice, _ = record.routing()
        if protection.guarding:
            verdict = protection.judge(signals.evaluations)
            verdict = verdict._replace(masking=tuple(each._replace(tagged=signals.tagged) for each in verdict.masking))
            record.verdict = record.verdict.also(verdict)
            for name in verdict.shadow:
                self._blocked.labels(name, "shadow").inc()
            if verdict.refusal is not None:
                record.blocked = verdict.blocks
                self._blocked.labels(verdict.blocks or "", "unknown" if verdict.unknown else "blocked").inc()
                raise verdict.refusal
        if choice.unsettled is not None:
            message = (
                f"A signal of the decision `{choice.unsettled.name}` could not be evaluated; the request was refused."
            )
            raise Refusal(503, message, code="signal_unavailable")

    def confine(self, record: Record) -> bool:
        """Let the request go to a model that may see it. Returns whether it would have gone to another."""
        _, choice, selection = record.routing()
        decision = record.verdict.confined
        if decision is None or any(selection.model in (ref.model, ref.lora_name) for ref in decision.modelRefs):
            return False
        self._blocked.labels(decision.name, "unknown" if record.verdict.unknown else "confined").inc()
        record.choice = replace(choice, decision=decision)
        record.selection = self._select(decision)
        return True

    def guarded(self, record: Record, mask: Mask | None) -> Guarded:
        """What holds for every candidate of a request, as it was masked for the one selected."""
        verdict, screening = record.verdict, _screening(record)
        if not (verdict.masking or verdict.confined or verdict.shadow or screening):
            return UNGUARDED
        assert record.selection is not None
        own = {record.selection.model, record.selection.base}
        # What is masked may be seen by all.
        bare = [each for each in verdict.masking if mask is None or not own.isdisjoint(each.trusted)]
        open_to = [frozenset(each.trusted) for each in bare]
        if (decision := verdict.confined) is not None:
            open_to.append(frozenset(ref.lora_name or ref.model for ref in decision.modelRefs))
        return Guarded(
            only=tuple(sorted(frozenset.intersection(*open_to))) if open_to else None,
            masked=record.masked,
            originals=dict(mask.originals) if mask is not None else {},
            json_wanted=mask is not None and mask.values.json_wanted,
            screening=tuple(dict.fromkeys(name for name, _ in screening)),
            shadow=verdict.shadow,
        )

    async def mask(self, payload: RequestT, request: Request, record: Record) -> tuple[RequestT, Request, Mask | None]:
        """The request as the selected model may see it; everything from here on knows no other."""
        selection = record.selection
        assert selection is not None
        trusted = {selection.model, selection.base}
        masking = [each for each in record.verdict.masking if trusted.isdisjoint(each.trusted)]
        types = frozenset[str]().union(*(each.types for each in masking))
        if not types or payload is None:
            return payload, request, None
        # Late, as all that looks for personal data: most configurations do without, and their routers start sooner.
        from triton_router.masking import Mask

        tagged = next((each.tagged for each in masking if each.tagged is not None), None)
        mask = await offload.run(is_large(request.body), Mask, payload, types, tagged)
        if not mask:
            return payload, request, None
        record.masked = tuple(each.decision for each in masking)
        for name in record.masked:
            self._blocked.labels(name, "masked").inc()
        return mask.request, replace(request, body=mask.request.encode()), mask

    async def edits(self, payload: ModelRequest | None, mask: Mask | None, record: Record) -> AnswerEdits | None:
        """What changes the response to ``payload``: it is screened, then values come in the place of placeholders."""
        screening, parts = _screening(record), record.query.parts if record.query is not None else None
        if payload is not None and _lacks_sources(payload, screening, parts, record):
            record.warnings = (UNVERIFIED,)
        return await self._edits(payload, mask.values if mask is not None else None, screening, parts)

    async def resume(
        self, guarded: Guarded, payload: ModelRequest, record: Record, decisions: Sequence[Decision]
    ) -> AnswerEdits | None:
        """:meth:`edits` for the next candidate of a request. ``decisions`` are those of its tables.

        Raises:
            Refusal: 503; one that screened its answers is no longer there.
        """
        record.masked, record.verdict = tuple(guarded.masked), Verdict(shadow=tuple(guarded.shadow))
        screening = [
            (each.name, settings) for each in decisions if each.name in guarded.screening for settings in _screens(each)
        ]
        if {name for name, _ in screening} != set(guarded.screening):
            message = "The rules that screen the answer have changed; please try again."
            raise Refusal(503, message, code="protection_unavailable")
        from triton_router.masking import Values

        values = Values(guarded.originals, json_wanted=guarded.json_wanted) if guarded.originals else None
        return await self._edits(payload, values, screening)

    async def _edits(
        self,
        payload: ModelRequest | None,
        values: Values | None,
        screening: Sequence[tuple[str, Screening]],
        parts: Parts | None = None,
    ) -> AnswerEdits | None:
        """``parts`` are those of the request as the client sent it, if they are known."""
        if payload is None or payload.ANSWER is None or not (screening or values):
            return None
        screens = [
            await offload.run(len(payload.text) > LARGE_BYTES, self._screen, payload, name, settings)
            for name, settings in screening
            if isinstance(settings, ResponsePiiSettings)
        ]
        judged = [
            (settings, partial(self._count, name))
            for name, settings in screening
            if isinstance(settings, ResponseJailbreakSettings) and settings.action != "none"
        ]
        grounded = [
            (settings, partial(self._count, name, "unsupported"))
            for name, settings in screening
            if isinstance(settings, HallucinationSettings)
        ]
        if any(screen.withholds for screen in screens):
            payload.ask_for_text_alone()
        sources = _sources(payload, parts) if grounded else None
        return AnswerEdits(payload.ANSWER, screens, judged, self._judges, values, grounded, sources)

    def _screen(self, payload: ModelRequest, name: str, settings: ResponsePiiSettings) -> Screen:
        from triton_router.personal import TYPES
        from triton_router.screening import Screen

        types = settings.pii_types_denied or TYPES
        outcome = {"block": "blocked", "mask": "masked", "report": "reported"}[settings.action]
        on_match = lambda: self._screened.labels(name, outcome).inc()  # noqa: E731
        return Screen(payload, types, settings.action, settings.message, on_match)

    def _count(self, name: str, outcome: str) -> None:
        self._screened.labels(name, outcome).inc()


def _screening(record: Record) -> list[tuple[str, Screening]]:
    """What screens the answer to a request, by the decision that says so."""
    decision = record.decision
    chosen = _screens(decision) if decision is not None and decision.modelRefs else ()
    return [*record.verdict.screening, *((decision.name, each) for each in chosen if decision is not None)]


def _screens(decision: Decision) -> Iterator[Screening]:
    for each in decision.plugins:
        if isinstance(each, _SCREENS) and each.configuration.enabled:
            yield each.configuration


def _sources(payload: ModelRequest, parts: Parts | None) -> Sources:
    return Sources(parts if parts is not None else PartReader().read(payload))


def _lacks_sources(
    payload: ModelRequest, screening: Sequence[tuple[str, Screening]], parts: Parts | None, record: Record
) -> bool:
    """Whether facts are asked for, some decision wants documents for them, and there are none."""
    if not any(
        isinstance(settings, HallucinationSettings) and settings.unverified_factual_action != "none"
        for _, settings in screening
    ):
        return False
    evaluations = record.signals.evaluations if record.signals is not None else {}
    factual = any(of == FactCheckSignal.TYPE and each.matched for (of, _), each in evaluations.items())
    return factual and not _sources(payload, parts)

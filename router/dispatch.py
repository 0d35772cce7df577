"""A request on its way to the selected model: its headers, and who watches its response."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from triton_router.attempt import Texts
from triton_router.body import Undo
from triton_router.cache.lookup import Keep
from triton_router.dialects import ModelRequest
from triton_router.exchange import Forward, Observer, Request
from triton_router.fallback import SIZE, STORED, Fallback, Plan
from triton_router.journal import Journal
from triton_router.plugins import HeaderChanges
from triton_router.record import Record
from triton_router.rewriting import routing_headers
from triton_router.runtime import Runtime
from triton_router.selection import ModelCatalog
from triton_router.telemetry import Metrics
from triton_router.upstreams import Upstreams
from triton_router.usage import AnswerSummary, Edits, UsageObserver
from triton_router.vitals import Flight, Vitals


class Dispatch:
    """For the models of one generation."""

    def __init__(
        self, runtime: Runtime, catalog: ModelCatalog, fallback: Fallback, journal: Journal, vitals: Vitals,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self._catalog, self._fallback, self._journal, self._metrics = catalog, fallback, journal, metrics
        self._usage, self._upstreams = runtime.usage, Upstreams(runtime.config)
        algorithms = any(each.algorithm for each in runtime.config.decisions())
        self._vitals = vitals if algorithms else None

    def forward(
        self,
        request: Request,
        payload: ModelRequest | None,
        record: Record,
        body: bytes | None,
        *,
        changes: HeaderChanges | None = None,
        back: Texts | None = None,
        conceal: bool = False,
        keep: Callable[[], Keep | None] | None = None,
        edits: Edits | None = None,
        settle: Callable[[AnswerSummary], None] | None = None,
        plan: Plan | None = None,
        members: dict[str, Undo] | None = None,
    ) -> Forward:
        """Send ``body``, that of ``payload`` as the model gets it; ``None`` leaves the request's own.

        ``changes`` are those of plugins; ``back`` has what headers were before another model was asked; ``keep`` makes
        what keeps the answer. The rest is as in :class:`.usage.UsageObserver` and :meth:`.fallback.Fallback.note`.

        Raises:
            Refusal: the model's key cannot be had now.
        """
        selection, changes, back = record.selection, changes or HeaderChanges(), back or {}
        assert selection is not None
        upstream, private = self._upstreams.changes(selection.base, request.headers)
        headers = {name: value for name, value in back.items() if value is not None and name not in private}
        headers |= changes.set
        headers |= routing_headers(selection, readable=bool(conceal or record.question or edits or settle))
        headers |= upstream
        attempt = ""
        if plan is not None and request.falls_back:
            before: Texts = {}
            if upstream or private:
                sent = {**request.headers, **dict.fromkeys(changes.remove), **changes.set}
                before = {name: sent.get(name) for name in (*upstream, *private)}
            attempt = self._fallback.note(plan, record, members or {}, before, conceal=conceal)
            headers |= self._fallback.headers(plan, selection, comes_back=bool(attempt))
            if plan.stored or (plan.others and not attempt):
                record.alone = STORED if plan.stored else SIZE
                self._metrics.no_fallback.labels(record.alone).inc()
        gone = (*changes.remove, *private, *(name for name, value in back.items() if value is None))
        observer = self._observer(
            record, payload, keep() if keep else None, conceal=conceal, edits=edits, settle=settle, plan=plan
        )
        return Forward(headers, body, record.headers(), gone, observer, attempt)

    def _observer(
        self,
        record: Record,
        payload: ModelRequest | None,
        keep: Keep | None,
        *,
        conceal: bool,
        edits: Edits | None,
        settle: Callable[[AnswerSummary], None] | None,
        plan: Plan | None,
    ) -> Observer:
        selection, usage = record.selection, self._usage
        assert selection is not None
        label, price = self._journal.label(selection.model), self._catalog.price(selection.base)
        # Embeddings have no end to hear of, and are long.
        answer_type, streams = (payload.ANSWER, payload.get("stream") is True) if payload is not None else (None, False)
        flight = None
        if self._vitals is not None:
            flight = partial(Flight, self._vitals, selection.base, selection.adapter, streams=streams)
        watched = plan is not None and (plan.troubled or usage.answers or usage.streams)
        return UsageObserver(
            self._metrics, label, usage, keep, answer_type=answer_type, price=price, conceal=conceal,
            start_flight=flight, edits=edits, settle=settle,
            on_status=partial(self._fallback.settle, plan) if plan is not None and watched else None,
        )  # fmt: skip

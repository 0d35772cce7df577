"""The path of one request: admit, read, recall, decide, let plugins work, ask the cache, forward.

Everything that speaks HTTP or gRPC (ext_proc, REST, tests) calls :meth:`Pipeline.route`, or :meth:`Pipeline.handle`
where it has to know why.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from time import perf_counter

from triton_router import names, offload, plugins, replies
from triton_router.attempt import BEGINNING, UNGUARDED, Attempt, Guarded, restored
from triton_router.body import Undo, is_large
from triton_router.breakers import Breakers
from triton_router.cache.cache import SemanticCache
from triton_router.cache.entry import Vector
from triton_router.cache.lookup import Memo
from triton_router.completion import Completion
from triton_router.config.services import OverloadSettings
from triton_router.decisions import Choice
from triton_router.dialects import DIALECTS, ModelRequest, OtherRequest
from triton_router.dispatch import Dispatch
from triton_router.errors import Refusal
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.fallback import Fallback, last_candidate
from triton_router.guards import Guards
from triton_router.inference import Encoder, Encoders, TopicParameters
from triton_router.journal import Journal
from triton_router.judging import judges_of
from triton_router.limits import Admission, Limits, Stores, Wish
from triton_router.live import LiveLog
from triton_router.recipes import Recipes
from triton_router.record import Record, ResponsePath
from triton_router.replay import ReplayLog
from triton_router.rewriting import address, encoded, read, rewrite, routing_headers
from triton_router.runtime import Runtime
from triton_router.selection import (
    Balance,
    Hint,
    LoadedAdapters,
    ModelCatalog,
    Selection,
    named_model,
)
from triton_router.signals import SignalInput, SignalResults
from triton_router.signals.context import estimated_tokens
from triton_router.signals.mcp import McpClassifier
from triton_router.telemetry import Metrics, RateLimitedLog
from triton_router.vitals import Vitals

log = logging.getLogger(__name__)

_NO_EMBEDDER = (
    "Name the embedding model in `model`: the router chooses models for conversations only. "
    "`providers.defaults.embedding_model` sets one for requests that name none."
)


class Pipeline:
    """One generation of the configuration, ready to route. Use it inside one event loop.

    ``adapters`` is what the backends are known to have loaded; whoever asks them replaces it.

    It has 18 methods and 17 attributes: one for each stage of a request, and what is asked about it.
    """

    def __init__(
        self,
        runtime: Runtime,
        encoders: Encoders | None,
        topics: Mapping[str, TopicParameters],
        metrics: Metrics,
        *,
        classifier: McpClassifier | None = None,
        cache: SemanticCache | None = None,
        replay: ReplayLog | None = None,
        live: LiveLog | None = None,
        vitals: Vitals | None = None,
        counts: Stores | None = None,
    ) -> None:
        self.runtime, self.encoders, self.cache = runtime, encoders, cache
        vitals = vitals or Vitals()
        self.catalog = ModelCatalog(runtime.config, Balance(runtime.config, vitals))
        self.adapters = LoadedAdapters()
        self._fallback = Fallback(runtime, self.catalog, Breakers(vitals))
        self.journal = Journal(runtime.journal, metrics, self.catalog.is_declared, replay, live)
        self._dispatch = Dispatch(runtime, self.catalog, self._fallback, self.journal, vitals, metrics)
        self.recipes = Recipes(runtime, encoders, topics, metrics, classifier=classifier, cache=cache)
        judges = judges_of((recipe.config for recipe in runtime.recipes), encoders)
        self._guards = Guards(metrics, lambda decision: self.catalog.select(decision, self.adapters), judges)
        self.limits = Limits(runtime.config, counts or Stores(), metrics)
        self._protects = bool(self.recipes.default.runtime.protection)
        self._metrics, self._in_flight = metrics, metrics.in_flight.labels()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._backlog = RateLimitedLog(log, "requests wait too long for this worker")

    async def prepare(self, encoder: Encoder | None = None) -> None:
        """Ask the encoders, or that one, for what the signals need once.

        Raises ``Unavailable``; routing works without it.
        """
        await self.recipes.prepare(encoder)

    async def drained(self) -> None:
        """Return when no request is being routed."""
        await self._idle.wait()

    async def route(self, request: Request) -> Outcome:
        """Decide what happens to ``request``. A part that is down degrades the response, never fails it."""
        outcome, _ = await self.handle(request)
        return outcome

    async def handle(self, request: Request) -> tuple[Outcome, Record]:
        """:meth:`route`, and the record of how it came to that."""
        record = Record(self.runtime.generation, request.headers.get(names.REQUEST_ID))
        path, query = request.plain_path, request.path.partition("?")[2]
        if query:
            request = replace(request, headers={**request.headers, names.QUERY: query})
        self._open += 1
        self._idle.clear()
        outcome: Outcome | None = None
        self._in_flight.inc()
        try:
            outcome = await self._outcome(path, request, record)
        except Refusal as refusal:
            # The record outlives the request, and where it was refused has all of the body.
            refusal.__traceback__ = refusal.__cause__ = refusal.__context__ = None
            record.error, record.path = refusal, "error" if record.blocked is None else "blocked"
            if record.blocked is None:
                self.journal.count(record)
            else:
                self.journal.write(record, "", replace(request, body=b""))
            outcome = replies.refusal(path, refusal, record)
        finally:
            self._in_flight.inc(-1)
            if not isinstance(outcome, Forward):
                record.release()
            self._open -= 1
            if not self._open:
                self._idle.set()
        return outcome, record

    async def _outcome(self, path: str, request: Request, record: Record) -> Outcome:
        if request.method == "GET":
            return replies.get(path, self.catalog, self.adapters, self.runtime.access, request, record)
        if (attempt := self._fallback.returned(request)) is not None:
            return await self._resume(attempt, DIALECTS[path], request, record)
        self._admit(request)
        if (dialect := DIALECTS.get(path)) is not None:
            return await self._ask(dialect, request, record)
        return await self._pass(request, record)

    def _admit(self, request: Request) -> None:
        overload = self.runtime.overload
        if _hurried(request, overload):
            self._backlog.warn(ms=round(request.waited * 1000))
            if request.waited * 1000 > overload.refuse_after_ms:
                self._metrics.refused.inc()
                raise Refusal(429, "The service is overloaded; please try again.", code="overloaded")
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "Compressed request bodies are not read.", code="unsupported_encoding")
        self.runtime.access.require_caller(request.headers)

    async def _ask(self, dialect: type[ModelRequest], request: Request, record: Record) -> Outcome:
        started, large = perf_counter(), is_large(request.body)
        payload = await offload.run(large, read, dialect, request.body)
        recipe = self.recipes.for_request(payload.model, request.headers)
        hurried = _hurried(request, self.runtime.overload)
        signal_input = SignalInput(payload, request.headers, hurried, self.runtime.reader)
        named = None
        if recipe is None:
            assert payload.model is not None
            named = named_model(self.catalog, self.adapters, payload.model)
        if self._protects and recipe is not self.recipes.default:
            # What `routing` refuses is refused for every name; a recipe may refuse more.
            reply = await self._guard(request, signal_input, record, named)
            if reply is not None:
                return reply
        if recipe is None:
            assert named is not None
            return await self._forward_to(named, payload, request, record)
        payload.require_conversation()
        # A cache would read all of a large body again, for a request that hardly comes twice.
        lookup, record.recipe = None if large else recipe.lookup, recipe.runtime
        parsed = perf_counter()

        memo = lookup.memo if lookup is not None else None
        repeat = memo.key(payload, request.body, request.headers) if memo is not None else None
        if memo and repeat and (reply := await self._recall(memo, repeat, request, signal_input, record)) is not None:
            return reply

        record.stages["parse"] = started, parsed
        await self.decide(signal_input, record)
        self._guards.judge(record, recipe.runtime.protection)
        self._guards.confine(record)
        decided, (_, choice, selection) = perf_counter(), record.routing()
        self.runtime.access.require(request.plain_path, selection.model, selection.base, request.headers)
        payload, request, mask = await self._guards.mask(payload, request, record)
        edits, guarded = await self._guards.edits(payload, mask, record), self._guards.guarded(record, mask)
        admission = await self._admitted(request, payload, selection, record, guarded)
        selection = record.selection = admission.selection

        beginning = BEGINNING if guarded is UNGUARDED else Attempt(guarded=guarded)
        plan = self._fallback.plan(beginning, record, request, self.adapters, payload.refers_to_stored)
        members: dict[str, Undo] = {}
        changes = await offload.run(large, rewrite, payload, request.headers, choice, selection, members)
        if isinstance(changes, Completion):
            finished = perf_counter()
            record.stages |= {"rewrite": (decided, finished), "total": (started, finished)}
            return self._reply(changes, "fast_response", request, payload, record)
        count = self.runtime.usage.request_on_streams or admission.settle is not None
        conceal, body = await offload.run(large, encoded, payload, count, release=large)

        if lookup is not None and edits is None:
            (embedding, trunk), model = _whole_embedding(record, self.encoders), (selection.base, selection.model)
            record.question = lookup.question(choice.decision, signal_input, body, embedding, model, trunk)
        rewritten = perf_counter()
        record.stages["rewrite"] = decided, rewritten
        if lookup is not None and record.question is not None:
            record.hit = await lookup.find(record.question, wait=payload.get("stream") is not True)
            record.stages["cache"] = rewritten, perf_counter()
        record.stages["total"] = started, perf_counter()
        record.ignored = payload.ignored
        if memo and repeat and record.question and record.repeatable:
            memo.note(repeat, record.question.exact, record.essence())
        if record.hit is not None:
            answer = payload.answer(record.hit.text, selection.model, record.hit.usage)
            return self._reply(answer, "cache", request, payload, record)

        record.path = "routed"
        self.journal.write(record, payload.prompt(), request)
        keep = partial(lookup.expect, record.question) if lookup is not None else None
        return self._dispatch.forward(
            request, payload, record, body, changes=changes, conceal=conceal, keep=keep, edits=edits,
            settle=admission.settle, plan=plan, members=members,
        )  # fmt: skip

    async def _resume(self, attempt: Attempt, dialect: type[ModelRequest], request: Request, record: Record) -> Forward:
        """Ask the next candidate: the gateway has brought ``request`` back, because the last one could not answer."""
        started, request = perf_counter(), restored(request, attempt)
        payload = await offload.run(is_large(request.body), dialect.parse, request.body)
        table = record.recipe = self.recipes.named(attempt.recipe)
        decision = next((each for each in table.config.routing.decisions if each.name == attempt.decision), None)
        record.choice, record.category = Choice(decision, attempt.confidence, ()), attempt.category
        record.failures = tuple((failure.model, failure.reason) for failure in attempt.failures)
        edits = await self._guards.resume(attempt.guarded, payload, record, self.recipes.decisions(attempt.recipe))
        selection = record.selection = self._fallback.next(attempt, record, request, self.adapters)
        wish = replace(Wish.of(request, payload, decision, selection), before=last_candidate(attempt))
        admission = self._note(await self.limits.admit(wish), record)
        plan = self._fallback.plan(attempt, record, request, self.adapters, payload.refers_to_stored)
        members: dict[str, Undo] = {}
        for name, undo in attempt.members.items():
            payload.undo(name, undo)
        await offload.run(is_large(request.body), address, payload, selection, members)
        record.path, record.ignored, record.stages["total"] = "fallback", payload.ignored, (started, perf_counter())
        self.journal.write(record, payload.prompt(), request)
        back = {**attempt.headers, names.REDIRECTED_FROM: None}
        return self._dispatch.forward(
            request, payload, record, payload.encode(), back=back, conceal=attempt.conceal, edits=edits,
            settle=admission.settle, plan=plan, members=members,
        )  # fmt: skip

    async def preview(self, request: Request) -> tuple[Record, Forward | Completion]:
        """What would become of a request to a model: asked of no backend and no cache, counted and logged nowhere.

        Raises:
            Refusal: it would get an error.
        """
        record, started = Record(self.runtime.generation), perf_counter()
        dialect = DIALECTS.get(request.plain_path)
        if dialect is None:
            raise Refusal(404, f"no such path: {request.path}")
        payload = dialect.parse(request.body)
        if self.recipes.for_request(payload.model, request.headers) is None:
            assert payload.model is not None
            record.selection, record.path = named_model(self.catalog, self.adapters, payload.model), "passthrough"
            payload.set("model", record.selection.upstream)
            return record, Forward(routing_headers(record.selection, readable=False), payload.encode())
        record.stages["parse"] = started, perf_counter()
        query = SignalInput(payload, request.headers, reader=self.runtime.reader)
        await self.decide(query, record, everything=True)
        decided, (_, choice, selection) = perf_counter(), record.routing()
        changes = rewrite(payload, request.headers, choice, selection)
        record.ignored, record.path = payload.ignored, "routed"
        record.stages |= {"rewrite": (decided, perf_counter()), "total": (started, perf_counter())}
        if isinstance(changes, Completion):
            record.path = "fast_response"
            return record, changes
        headers = changes.set | routing_headers(selection, readable=False)
        return record, Forward(headers, payload.encode(), record.headers(), tuple(changes.remove))

    async def _guard(
        self, request: Request, signal_input: SignalInput, record: Record, named: Selection | None
    ) -> Outcome | None:
        """What `routing` protects from, for a request to a ``named`` model or another recipe: ``None`` lets it through.

        Raises ``Refusal``.
        """
        payload, default = signal_input.request, self.recipes.default
        table = default.runtime
        signals = await default.gatherer.gather(signal_input, hangs_on=table.protection.hanging_on)
        answer = table.protection.answer(signals.evaluations).decision
        choice = table.choosing(signals.evaluations)
        choice = replace(choice, decision=answer, unsettled=None)
        record.recipe, record.signals, record.choice = table, signals, choice
        record.selection = named if named is not None else self.catalog.default
        self._guards.judge(record, default.runtime.protection)
        if answer is not None:
            payload, request, _ = await self._guards.mask(payload, request, record)
            completion = plugins.apply(answer.plugins, payload, signal_input.headers, record.selection.model)
            assert isinstance(completion, Completion)
            return self._reply(completion, "fast_response", request, payload, record)
        if named is not None and self._guards.confine(record):
            return await self._forward_to(record.selection, payload, request, record)
        record.recipe = record.choice = None
        return None

    async def _recall(
        self, memo: Memo[Record], repeat: bytes, request: Request, signal_input: SignalInput, record: Record
    ) -> Reply | None:
        """The answer to a request that this caller has made before, without asking any signal."""
        entry = await memo.recall(repeat)
        if entry is None:
            return None
        hit, earlier = entry
        record.repeat(earlier, hit)
        assert record.selection is not None
        answer = signal_input.request.answer(hit.text, record.selection.model, hit.usage)
        return self._reply(answer, "cache", request, signal_input.request, record)

    async def decide(
        self, signal_input: SignalInput, record: Record | None = None, *, everything: bool = False
    ) -> Record:
        """Gather signals, choose a decision, select a model; returns ``record`` with that.

        The recipe is that of the request's model name, or else the default one. ``everything`` scores domains that
        nothing needs too.
        """
        runtime, record = self.runtime, record or Record(self.runtime.generation)
        named = self.recipes.for_request(signal_input.request.model, signal_input.headers)
        recipe = named if named is not None else self.recipes.default
        table = record.recipe = recipe.runtime
        record.query = signal_input
        began = perf_counter()
        signals = record.signals = await recipe.gatherer.gather(
            signal_input, everything=everything, hangs_on=partial(table.protection.beside, table.settling)
        )
        record.category = signals.domains.winner if signals.domains is not None else None
        record.blocked = table.protection.judge(signals.evaluations).blocks
        evaluated = perf_counter()
        choice = record.choice = table.choosing(signals.evaluations)
        chosen = perf_counter()
        session, hint = signal_input.headers.get(runtime.session_header), _hint(signals, runtime.hint_threshold)
        turns = signal_input.request.turns
        select = partial(
            self.catalog.select,
            loaded=self.adapters,
            session=session,
            hint=hint,
            tokens=lambda: estimated_tokens(turns()),
        )
        stored = signal_input.request.refers_to_stored
        record.selection = self._fallback.select(select, table, choice.decision, self.adapters, stored)
        record.stages |= {"signals": (began, evaluated), "decision": (evaluated, chosen),
                          "selection": (chosen, perf_counter()), **signals.calls}  # fmt: skip
        return record

    async def _pass(self, request: Request, record: Record) -> Outcome:
        """The other allowed paths: untouched, to the model that they name, or else to the default one."""
        payload = await offload.run(is_large(request.body), OtherRequest.parse, request.body) if request.body else None
        name = payload.model if payload else None
        body: ModelRequest | None = payload
        if name is not None and not self.catalog.is_auto(name):
            selection = named_model(self.catalog, self.adapters, name)
        elif request.plain_path != names.EMBEDDINGS_PATH:
            selection, body = self.catalog.default, None
        elif payload is None or self.catalog.embedder is None:
            raise Refusal(400, _NO_EMBEDDER, code="model_required", param="model")
        else:
            selection = self.catalog.embedder
        if self._protects and payload is not None:
            hurried = _hurried(request, self.runtime.overload)
            query = SignalInput(payload, request.headers, hurried, self.runtime.reader)
            reply = await self._guard(request, query, record, selection)
            if reply is not None:
                return reply
            if record.verdict.masking:
                body = payload
        return await self._forward_to(selection, body, request, record)

    async def _forward_to(
        self, selection: Selection, payload: ModelRequest | None, request: Request, record: Record
    ) -> Forward:
        """Forward ``payload`` with the model's own name in it; ``None`` leaves it as it is."""
        self.runtime.access.require(request.plain_path, selection.model, selection.base, request.headers)
        record.selection, record.path = selection, "passthrough"
        payload, request, mask = await self._guards.mask(payload, request, record)
        edits, guarded = await self._guards.edits(payload, mask, record), self._guards.guarded(record, mask)
        admission = await self._admitted(request, payload, selection, record, guarded)
        selection = record.selection = admission.selection
        count = self.runtime.usage.request_on_streams or admission.settle is not None
        conceal = payload is not None and count and await offload.run(is_large(request.body), payload.request_usage)
        if payload is not None and payload.model != selection.upstream:
            payload.set("model", selection.upstream)
        self.journal.count(record)
        encoded = payload.encode() if payload is not None and (payload.changed or mask is not None) else None
        return self._dispatch.forward(
            request, payload, record, encoded, conceal=conceal, edits=edits, settle=admission.settle
        )

    async def _admitted(
        self, request: Request, payload: ModelRequest | None, selection: Selection, record: Record, guarded: Guarded
    ) -> Admission:
        """Within the limits, perhaps to a cheaper candidate. Raises ``Refusal``."""
        if not self.limits:
            return Admission(selection)

        def cheapest() -> Selection | None:
            if payload is not None and payload.refers_to_stored():
                return None
            other = self.catalog.cheapest(record.decision, self.adapters)
            if other is not None and guarded.allows(other.model):
                with contextlib.suppress(Refusal):
                    self.runtime.access.require(request.plain_path, other.model, other.base, request.headers)
                    return other
            return None

        return self._note(
            await self.limits.admit(Wish.of(request, payload, record.decision, selection), cheapest), record
        )

    @staticmethod
    def _note(admission: Admission, record: Record) -> Admission:
        record.limits, record.allowances, record.release = admission.notes, admission.headers, admission.release
        return admission

    def _reply(
        self, answer: Completion, path: ResponsePath, request: Request, payload: ModelRequest, record: Record
    ) -> Reply:
        """An answer that no backend is asked for."""
        record.path, record.ignored = path, record.ignored or payload.ignored
        self.journal.write(record, payload.prompt(), request)
        return Reply(200, answer.body, {"content-type": answer.content_type, **record.headers()})


def _hurried(request: Request, overload: OverloadSettings) -> bool:
    """Whether requests wait so long that this one has to do without encoders."""
    return request.waited * 1000 > overload.shed_after_ms


def _hint(signals: SignalResults, threshold: float) -> Hint | None:
    """What the MCP server asks for, if it is sure enough."""
    answer = signals.classified
    if answer is None or answer.confidence < threshold:
        return None
    return Hint(answer.model, answer.adapter, answer.use_reasoning)


def _whole_embedding(record: Record, encoders: Encoders | None) -> tuple[Vector | None, str]:
    """The prompt's embedding as stores keep it, and whose it is; not of a text in windows, which is more than that."""
    encoding = record.signals.encoding if record.signals is not None else None
    if encoding is None or encoding.windows > 1 or encoders is None:
        return None, ""
    return encoders.lengthened(encoding.embedding), encoding.trunk

"""The path of one request: read, gather signals, decide, select, rewrite.

Everything that speaks HTTP or gRPC (ext_proc, REST, tests) calls :meth:`Pipeline.route`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path as FilePath
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import orjson

from triton_router import plugins
from triton_router.answers import Answer
from triton_router.body import Body
from triton_router.cache.cache import Hit, Memo, Question, SemanticCache, may_read
from triton_router.completion import Completion
from triton_router.config import Loaded
from triton_router.config.schema import Decision, SemanticCachePlugin
from triton_router.config.services import McpSettings
from triton_router.decisions import Choice, Settling, Verdict, choose, nearness
from triton_router.dialects import DIALECTS, ModelRequest
from triton_router.errors import Refusal, refusal_body
from triton_router.inference import Encoder, Encoders, Unavailable
from triton_router.replay import Records
from triton_router.selection import Hint, LoadedAdapters, ModelCatalog, Selection, apply_reasoning
from triton_router.signals import SignalInput, SignalResults
from triton_router.signals.domain import TopicParameters
from triton_router.signals.gather import Gatherer, caches_meaning
from triton_router.signals.mcp import McpClassifier
from triton_router.telemetry import AuditLog, Metrics, RateLimitedLog
from triton_router.usage import Observer

log = logging.getLogger(__name__)

MODELS_PATH = "/v1/models"
HEALTH_PATH = "/health"

# In labels of metrics, for adapters that the configuration does not name: tenants may have thousands.
UNDECLARED = "(undeclared)"

# Requests whose exact repeats need no signals.
MEMO = 10_000
# Seconds after which a call to the encoder is on its way.
READ_AHEAD = 0.0005


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as the gateway saw it.

    ``headers`` has lower-case names; of a repeated header the values are joined with a comma. ``body`` is whole and
    already decoded from any transfer coding. ``waited`` is for how many seconds requests wait at the moment before
    they get here.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    waited: float = 0.0


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request on.

    ``body`` of ``None`` means unchanged. ``headers`` are set on the way to the backend and those of ``remove`` taken
    out, ``answer_headers`` are set on the answer that comes back. ``observer`` hears of that answer. ``route`` says
    why, unless the client named the model.
    """

    headers: Mapping[str, str]
    body: bytes | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    observer: Observer | None = None
    route: Route | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer in the backend's place. ``route`` says why, if a decision came to this."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    route: Route | None = None


Outcome = Forward | Reply


@dataclass(frozen=True, slots=True)
class Route:
    """Why a prompt goes where it goes. ``stages`` are when each began and ended, as ``perf_counter`` has it."""

    gathered: SignalResults
    choice: Choice
    selection: Selection
    stages: dict[str, tuple[float, float]]

    @property
    def timings(self) -> dict[str, float]:
        """Milliseconds by stage."""
        return {stage: (ended - began) * 1000 for stage, (began, ended) in self.stages.items()}

    def scores(self, decisions: Sequence[Decision]) -> dict[str, float | None]:
        """How near each of the configuration's ``decisions`` came, by name; see :func:`.decisions.nearness`."""
        nearest = ((decision.name, nearness(verdict))
                   for decision, verdict in zip(decisions, self.choice.verdicts, strict=True))  # fmt: skip
        return {name: None if near is None else round(near, 4) for name, near in nearest}


class Pipeline:
    """One generation of the configuration, ready to route. Use it inside one event loop.

    ``adapters`` is what the backends are known to have loaded; whoever asks them replaces it.
    """

    def __init__(
        self,
        loaded: Loaded,
        encoders: Encoders | None,
        topics: TopicParameters,
        metrics: Metrics,
        *,
        classifier: McpClassifier | None = None,
        cache: SemanticCache | None = None,
        records: Records | None = None,
    ) -> None:
        services = loaded.config.global_.services
        self.config = loaded.config
        self.generation = loaded.digest[:12]
        self.encoders = encoders
        self.catalog = ModelCatalog(loaded.config)
        self.adapters = LoadedAdapters()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._routing = loaded.config.routing
        self._hangs_on = Settling(self._routing.decisions, self._routing.strategy)
        self._gatherer = Gatherer(loaded.config, encoders, topics, metrics, classifier=classifier)
        self.encoder = self._gatherer.embedder
        self._metrics = metrics
        # Looking a label up costs more than counting.
        self._stage_seconds = lru_cache(metrics.stage_seconds.labels)
        self._session_header = loaded.config.global_.router.session_header
        self._mcp_threshold = mcp.threshold if (mcp := _mcp_settings(loaded)) else 0.0
        self._anybody = services.authz.fail_open
        self._usage = services.observability.usage
        self._log_scores = services.observability.logging.scores
        self._overload = services.extproc.overload
        self._behind = RateLimitedLog(log, "requests wait too long for this worker")
        self.cache = cache
        self.records = records
        self._memo = Memo(cache, MEMO) if cache is not None and self._by_body_alone() else None
        self._reads_ahead = caches_meaning(loaded.config)
        self._keeping: set[asyncio.Task[None]] = set()
        audit = services.observability.audit
        self._audit = AuditLog(FilePath(audit.path)) if audit.enabled else None
        self._audit_prompt = audit.include_prompt

    async def prepare(self, encoder: Encoder | None = None) -> None:
        """Ask the encoders, or that one, for what the signals need once.

        Raises ``Unavailable``; routing works without it.
        """
        await self._gatherer.prepare(encoder)

    @property
    def failures(self) -> dict[str, str]:
        """Why trunks are not used at the moment, by name."""
        return {each.trunk.name: each.failure for each in self.encoders or () if each.failure}

    async def route(self, request: Request) -> Outcome:
        """Decide what happens to ``request``. A part that is down degrades the answer, never fails it."""
        path = request.path.partition("?")[0]
        self._open += 1
        self._idle.clear()
        with self._metrics.in_flight.track_inprogress():
            try:
                if request.method == "GET":
                    return self._get(path)
                self._admit(request)
                if request.headers.get("content-encoding", "identity") != "identity":
                    raise Refusal(415, "Compressed request bodies are not read.", code="unsupported_encoding")
                if (dialect := DIALECTS.get(path)) is not None:
                    return await self._ask(dialect, request)
                return self._pass(request)
            except Refusal as refusal:
                return self._refuse(path, refusal)
            finally:
                self._open -= 1
                if not self._open:
                    self._idle.set()

    def _admit(self, request: Request) -> None:
        if request.waited * 1000 <= self._overload.shed_after_ms:
            return
        self._behind.warn(ms=round(request.waited * 1000))
        if request.waited * 1000 > self._overload.refuse_after_ms:
            self._metrics.refused.inc()
            raise Refusal(429, "The service is overloaded; please try again.", code="overloaded")

    async def drained(self) -> None:
        """Return when no request is being routed."""
        await self._idle.wait()

    async def decide(self, asked: SignalInput, *, everything: bool = False) -> Route:
        """Gather signals, choose a decision, select a model. ``everything`` scores domains that nothing needs too."""
        started = perf_counter()
        gathered = await self._gatherer.gather(asked, everything=everything, hangs_on=self._hangs_on)
        signalled = perf_counter()
        choice = choose(self._routing.decisions, gathered.evaluations, self._routing.strategy)
        chosen = perf_counter()
        selection = self.catalog.select(
            choice.decision,
            self.adapters,
            session=asked.headers.get(self._session_header),
            hint=self._hint(gathered),
        )
        stages = {"signals": (started, signalled), "decision": (signalled, chosen),
                  "selection": (chosen, perf_counter())}  # fmt: skip
        return Route(gathered, choice, selection, stages | gathered.calls)

    def _hint(self, gathered: SignalResults) -> Hint | None:
        said = gathered.classified
        if said is None or said.confidence < self._mcp_threshold:
            return None
        return Hint(said.model, said.adapter, said.use_reasoning)

    # --- paths -----------------------------------------------------------------------------------------------------

    def _get(self, path: str) -> Outcome:
        if path == MODELS_PATH:
            return self._reply(200, orjson.dumps({"object": "list", "data": self.models()}))
        if path.startswith(MODELS_PATH + "/"):
            name = unquote(path.removeprefix(MODELS_PATH + "/"))
            found = next((entry for entry in self.models() if entry["id"] == name), None)
            if found is None:
                raise _unknown_model(name)
            return self._reply(200, orjson.dumps(found))
        if path == HEALTH_PATH:
            return self._reply(200, b'{"status":"ok"}')
        raise Refusal(404, f"no such path: GET {path}")

    def models(self) -> list[dict[str, Any]]:
        """The entries of ``GET /v1/models``, virtual names first."""
        return [
            {"id": entry.name, "object": "model", "created": 0, "owned_by": "triton-router", "parent": entry.parent}
            | ({"description": entry.description} if entry.description else {})
            for entry in self.catalog.listed(self.adapters)
        ]

    async def _ask(self, dialect: type[ModelRequest], request: Request) -> Outcome:
        started = perf_counter()
        sent = dialect.parse(request.body)
        prompt = sent.prompt()
        name = sent.model
        if name is not None and not self.catalog.is_auto(name):
            return self._to_named(sent, name, conceal=self._asks_usage(sent))
        parsed = perf_counter()
        repeat = self._memo.key(sent, request.body, request.headers) if self._memo is not None else None
        hurried = request.waited * 1000 > self._overload.shed_after_ms
        asked = SignalInput(prompt, sent, request.headers, hurried)
        if repeat is not None and (reply := await self._repeated(asked, repeat)) is not None:
            return reply
        if self.cache is not None and self._reads_ahead and self._open == 1 and may_read(request.headers):
            # The encoder takes longer; with other requests at hand there would be better things to do meanwhile.
            asyncio.get_running_loop().call_later(READ_AHEAD, self.cache.read_ahead, prompt)
        route = await self.decide(asked)
        decided = perf_counter()
        if self._needs_identity(route):
            raise Refusal(403, "This service needs to know who is calling.", code="identity_required")
        model, plugged = route.selection.model, route.choice.decision.plugins if route.choice.decision else ()
        changes = plugins.apply(plugged, sent, request.headers, model)
        if isinstance(changes, plugins.Completion):
            self._timed(route, started, parsed, decided)
            return self._made_here(asked, route, changes, "fast_response", self._answer_headers(asked, route))
        asks_usage = self._asks_usage(sent)
        body = _rewritten(sent, route)
        question = self._question(asked, route, body)
        rewritten = perf_counter()
        hit = await self._found(sent, question)
        if question is not None:
            route.stages["cache"] = rewritten, perf_counter()
        self._timed(route, started, parsed, decided)
        answer = self._answer_headers(asked, route)
        if question is not None and repeat is not None and self._memo is not None and _decided_in_full(route):
            self._memo.note(repeat, question.exact, model, answer)
        if hit is not None:
            answered = sent.answer(hit.text, model, hit.usage)
            return self._made_here(asked, route, answered, "cache", answer | _cache_headers(hit))
        replay = self._record(asked, route, "routed")
        headers, added = changes.set | _upstream(route.selection), {}
        if replay is not None:
            added["x-vsr-replay-id"] = replay
        if question is not None:
            added["x-vsr-cache-hit"] = "miss"
            if question.may_store:
                added["x-vsr-cache-key"] = question.exact
        if question is not None or asks_usage:
            # A compressed answer could not be read.
            headers["accept-encoding"] = "identity"
        observer = self._observer(route.selection, sent, question, conceal=asks_usage)
        return Forward(headers, body, answer | added, tuple(changes.remove), observer, route)

    async def _repeated(self, asked: SignalInput, key: bytes) -> Reply | None:
        """The answer to a request that this caller has made before, without asking any signal."""
        assert self._memo is not None
        recalled = await self._memo.recall(key)
        if recalled is None:
            return None
        hit, model, headers = recalled
        answer = asked.request.answer(hit.text, model, hit.usage)
        decision = headers.get("x-vsr-selected-decision", "")
        self._metrics.requests.labels(decision, self._label(model), "cache").inc()
        fields = {"request_id": asked.headers.get("x-request-id"), "decision": decision,
                  "category": headers.get("x-vsr-selected-category"), "model": model, "repeat": True}  # fmt: skip
        log.info("routed", extra={"fields": fields})
        replay = self._account(asked, {**self._when("cache"), **fields})
        made = {"x-vsr-replay-id": replay} if replay is not None else {}
        made |= {"content-type": answer.content_type, "x-vsr-response-path": "cache"}
        kept = {name: value for name, value in headers.items() if name != "server-timing"}
        return Reply(200, answer.body, kept | made | _cache_headers(hit))

    def _timed(self, route: Route, started: float, parsed: float, decided: float) -> None:
        finished = perf_counter()
        rewritten, _ = route.stages.get("cache", (finished, finished))
        route.stages.update(parse=(started, parsed), rewrite=(decided, rewritten), total=(started, finished))

    def _made_here(
        self, asked: SignalInput, route: Route, answer: Completion, path: str, headers: Mapping[str, str]
    ) -> Reply:
        """An answer that no backend is asked for."""
        replay = self._record(asked, route, path)
        made = {"x-vsr-replay-id": replay} if replay is not None else {}
        made |= {"content-type": answer.content_type, "x-vsr-response-path": path}
        return Reply(200, answer.body, {**headers, **made}, route)

    def _question(self, asked: SignalInput, route: Route, body: bytes) -> Question | None:
        """What the cache is asked, if the decision has one."""
        decision, encoding = route.choice.decision, route.gathered.encoding
        if self.cache is None or decision is None:
            return None
        plugin = next((each for each in decision.plugins if isinstance(each, SemanticCachePlugin)), None)
        if plugin is None or not plugin.configuration.enabled:
            return None
        # A text that was read in windows is more than its embedding says.
        embedding = encoding.embedding if encoding is not None and encoding.windows == 1 else None
        selection = route.selection
        return self.cache.question(
            plugin.configuration, decision, asked.request, body, asked.headers, embedding,
            model=(selection.base, selection.model),
        )  # fmt: skip

    async def _found(self, sent: ModelRequest, question: Question | None) -> Hit | None:
        if self.cache is None or question is None:
            return None
        hit = await self.cache.find(question)
        if hit is None and sent.get("stream") is not True:
            hit = await self.cache.coalesced(question)
        return hit

    def _keep(self, question: Question, answer: Answer | None) -> None:
        assert self.cache is not None
        task = asyncio.get_running_loop().create_task(self.cache.keep(question, answer))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    def _asks_usage(self, sent: ModelRequest) -> bool:
        """Have the backend count a stream's tokens; whether the client is not to see the count."""
        return self._usage.request_on_streams and sent.count_stream()

    def _observer(
        self, selection: Selection, sent: Body | None, question: Question | None = None, *, conceal: bool = False
    ) -> Observer:
        keep = None
        if self.cache is not None and question is not None and question.may_store:
            self.cache.sent(question)
            keep = partial(self._keep, question)
        label, price = self._label(selection.model), self.catalog.price(selection.base)
        # Embeddings have no end to hear of, and are long.
        read = sent.ANSWER if isinstance(sent, ModelRequest) else None
        return Observer(self._metrics, label, self._usage, keep, read=read, price=price, conceal=conceal)

    def _by_body_alone(self) -> bool:
        """Whether a request's body decides where it goes: no header, no server's word, no conversation's header."""
        return self._gatherer.by_body_alone and all(len(each.modelRefs) < 2 for each in self._routing.decisions)

    def _needs_identity(self, route: Route) -> bool:
        """Whether a decision depends on the caller's role, and nobody vouches for the caller."""
        if self._anybody or not self._gatherer.roles_needed:
            return False
        return any(kind == "authz" and found.matched is None
                   for (kind, _), found in route.gathered.evaluations.items())  # fmt: skip

    def _pass(self, request: Request) -> Outcome:
        """The other allowed paths: untouched, to the model that they name, or else to the default one."""
        body = Body.parse(request.body) if request.body else None
        name = body.model if body else None
        if body is None or name is None or self.catalog.is_auto(name):
            return self._forward_untouched(self.catalog.default, body)
        return self._to_named(body, name)

    def _to_named(self, body: Body, name: str, *, conceal: bool = False) -> Outcome:
        selection = self.catalog.concrete(name, self.adapters)
        if selection is None:
            raise _unknown_model(name)
        if selection.upstream != name:
            body.set("model", selection.upstream)
        return self._forward_untouched(selection, body, conceal=conceal)

    def _forward_untouched(self, selection: Selection, body: Body | None, *, conceal: bool = False) -> Forward:
        label = self._label(selection.model)
        self._metrics.requests.labels("", label, "passthrough").inc()
        answer = {"x-vsr-selected-model": selection.model, **self._always(), "x-vsr-response-path": "upstream"}
        headers = _upstream(selection) | ({"accept-encoding": "identity"} if conceal else {})
        changed = body.encode() if body is not None and body.changed else None
        return Forward(headers, changed, answer, observer=self._observer(selection, body, conceal=conceal))

    # --- answers ---------------------------------------------------------------------------------------------------

    def _answer_headers(self, asked: SignalInput, route: Route) -> dict[str, str]:
        selection, decision, domains = route.selection, route.choice.decision, route.gathered.domains
        headers = {"x-vsr-selected-model": selection.model, "x-vsr-response-path": "upstream", **self._always()}
        if decision is not None:
            headers["x-vsr-selected-decision"] = decision.name
            headers["x-vsr-selected-confidence"] = f"{route.choice.confidence:.4f}"
        if domains is not None and domains.winner is not None:
            headers["x-vsr-selected-category"] = domains.winner
        headers["x-vsr-selected-reasoning"] = "on" if selection.use_reasoning else "off"
        if selection.missing is not None:
            headers["x-vsr-adapter-fallback"] = selection.missing
        if degraded := _degraded(route):
            headers["x-vsr-degraded"] = ",".join(degraded)
        if ignored := asked.request.ignored:
            headers["x-vsr-ignored"] = ",".join(ignored)
        headers["server-timing"] = ", ".join(
            f"{stage};dur={(ended - began) * 1000:.3f}" for stage, (began, ended) in route.stages.items()
        )
        return headers

    def _always(self) -> dict[str, str]:
        return {"x-vsr-config-generation": self.generation}

    def _reply(self, status: int, body: bytes) -> Reply:
        headers = {"content-type": "application/json", **self._always()}
        if status >= 400:
            headers["x-vsr-response-path"] = "error"
        return Reply(status, body, headers)

    def _refuse(self, path: str, refusal: Refusal) -> Reply:
        self._metrics.requests.labels("", "", "error").inc()
        body = refusal_body(path, refusal.status, str(refusal), code=refusal.code, param=refusal.param)
        reply = self._reply(refusal.status, body)
        return replace(reply, headers={**reply.headers, "retry-after": "1"}) if refusal.status == 429 else reply

    def _label(self, model: str) -> str:
        return model if self.catalog.is_declared(model) else UNDECLARED

    def _record(self, asked: SignalInput, route: Route, path: str) -> str | None:
        """Count and log a decision; returns the id under which it can be looked up, if it can."""
        if self._audit is None and self.records is None:
            # A timer comes after all that is ready, so the answer is on its way first: this takes as long as deciding.
            asyncio.get_running_loop().call_later(0, self._tell, asked, route, path)
            return None
        return self._account(asked, self._decision_record(asked, route, path, self._tell(asked, route, path)))

    def _tell(self, asked: SignalInput, route: Route, path: str) -> dict[str, Any]:
        """Count and log a decision; returns what the log has of it."""
        decision, selection = route.choice.decision, route.selection
        name = decision.name if decision else ""
        self._metrics.requests.labels(name, self._label(selection.model), path).inc()
        for stage, (began, ended) in route.stages.items():
            self._stage_seconds(stage).observe(ended - began)
        for part in _degraded(route):
            self._metrics.degraded.labels(part).inc()
        for kind in selection.refused_hints:
            self._metrics.refused_hints.labels(kind).inc()
        if selection.missing is not None:
            self._metrics.adapter_fallbacks.labels(self._label(selection.missing)).inc()
        fields = self._summary(asked, route)
        scores = {"scores": route.scores(self._routing.decisions)} if self._log_scores else {}
        log.log(logging.WARNING if fields["degraded"] else logging.INFO, "routed", extra={"fields": fields | scores})
        return fields

    def _account(self, asked: SignalInput, record: dict[str, Any]) -> str | None:
        """Write ``record`` to where records are kept; returns its id, if it can be looked up."""
        prompt = {"prompt": asked.prompt.encode("utf-8", "replace").decode()}
        if self._audit is not None and not self._audit.write(record | (prompt if self._audit_prompt else {})):
            self._metrics.audit_errors.inc()
        if self.records is None:
            return None
        return self.records.keep(record | (prompt if self.records.settings.include_prompt else {}))

    def _summary(self, asked: SignalInput, route: Route) -> dict[str, Any]:
        decision, gathered, selection = route.choice.decision, route.gathered, route.selection
        degraded = dict(zip(gathered.degraded, gathered.reasons, strict=True))
        if selection.missing is not None:
            degraded["adapter"] = selection.missing
        return {
            "request_id": asked.headers.get("x-request-id"),
            "decision": decision.name if decision else None,
            "confidence": round(route.choice.confidence, 4),
            "category": gathered.domains.winner if gathered.domains else None,
            "model": selection.model,
            "base": selection.base,
            "reasoning": selection.use_reasoning,
            "degraded": degraded,
            "ignored": asked.request.ignored,
            "ms": {stage: round((ended - began) * 1000, 3) for stage, (began, ended) in route.stages.items()},
        }

    def _when(self, path: str) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        return {"time": now, "generation": self.generation, "path": path}

    def _decision_record(self, asked: SignalInput, route: Route, path: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Why this request went where it went, for whoever has to account for it."""
        matched = [
            {"type": kind, "name": name, "value": round(found.value, 4), "threshold": found.threshold}
            for (kind, name), found in route.gathered.evaluations.items()
            if found.matched
        ]
        verdicts = zip(self._routing.decisions, route.choice.verdicts, strict=True)
        return {
            **self._when(path),
            **{name: value for name, value in fields.items() if name != "ms"},
            "adapter": route.selection.adapter,
            "matched_signals": matched,
            "matched_decisions": [decision.name for decision, verdict in verdicts if _matched(verdict)],
            "refused_hints": route.selection.refused_hints,
        }


def _cache_headers(hit: Hit) -> dict[str, str]:
    return {
        "x-vsr-cache-hit": hit.kind,
        "x-vsr-cache-key": hit.key,
        "x-vsr-cache-similarity": f"{hit.similarity:.4f}",
        "age": str(int(hit.age)),
    }


def _matched(verdict: Verdict) -> bool:
    return verdict.matched is True


def _degraded(route: Route) -> list[str]:
    """Parts that the request went without."""
    return route.gathered.degraded + (["adapter"] if route.selection.missing is not None else [])


def _decided_in_full(route: Route) -> bool:
    """Whether the same request, asked again, would go the same way: nothing was missing or unknown."""
    known = (found.matched is not None for found in route.gathered.evaluations.values())
    return not _degraded(route) and all(known)


def _mcp_settings(loaded: Loaded) -> McpSettings | None:
    return loaded.config.global_.model_catalog.modules.classifier.mcp


def _unknown_model(name: str) -> Refusal:
    return Refusal(404, f"The model `{name}` does not exist.", code="model_not_found", param="model")


def _rewritten(sent: ModelRequest, route: Route) -> bytes:
    apply_reasoning(sent, route.selection)
    sent.set("model", route.selection.upstream)
    return sent.encode()


def _upstream(selection: Selection) -> dict[str, str]:
    return {"x-selected-model": selection.model, "x-gateway-base-model-name": selection.base}


__all__ = ["Forward", "Observer", "Outcome", "Pipeline", "Reply", "Request", "Route", "Unavailable"]

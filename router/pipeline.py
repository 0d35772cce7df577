"""The path of one request: read, gather signals, decide, select, rewrite.

Everything that speaks HTTP or gRPC (ext_proc, REST, tests) calls :meth:`Pipeline.route`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import orjson

from router import plugins
from router.chat import ChatRequest, MalformedRequest
from router.config import Loaded
from router.decisions import Choice, choose
from router.errors import error_body
from router.inference import Encoder, Unavailable
from router.selection import ModelCatalog, Selection, apply_reasoning
from router.signals.domain import TopicParameters
from router.signals.gather import Gathered, Gatherer
from router.telemetry import Metrics

log = logging.getLogger(__name__)

CHAT_PATH = "/v1/chat/completions"
MODELS_PATH = "/v1/models"
HEALTH_PATH = "/health"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request as the gateway saw it.

    ``headers`` has lower-case names; of a repeated header the values are joined with a comma. ``body`` is whole and
    already decoded from any transfer coding.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the request on.

    ``body`` of ``None`` means unchanged. ``headers`` are set on the way to the backend, ``answer_headers`` on the
    answer that comes back.
    """

    headers: Mapping[str, str]
    body: bytes | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer in the backend's place."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Outcome = Forward | Reply


@dataclass(frozen=True, slots=True)
class Route:
    """Why a prompt goes where it goes. ``timings`` are milliseconds by stage."""

    gathered: Gathered
    choice: Choice
    selection: Selection
    timings: dict[str, float]


class Pipeline:
    """One generation of the configuration, ready to route. Use it inside one event loop."""

    def __init__(self, loaded: Loaded, encoder: Encoder | None, topics: TopicParameters, metrics: Metrics) -> None:
        self.config = loaded.config
        self.generation = loaded.digest[:12]
        self.encoder = encoder
        self.catalog = ModelCatalog(loaded.config)
        self._routing = loaded.config.routing
        self._gatherer = Gatherer(loaded.config, encoder, topics, metrics)
        self._metrics = metrics

    async def prepare(self) -> None:
        """Ask the encoder for what the signals need once. Raises ``Unavailable``; routing works without it."""
        await self._gatherer.prepare()

    async def route(self, request: Request) -> Outcome:
        """Decide what happens to ``request``. A part that is down degrades the answer, never fails it."""
        path = request.path.partition("?")[0]
        with self._metrics.in_flight.track_inprogress():
            try:
                if request.method == "GET":
                    return self._get(path)
                if path == CHAT_PATH:
                    return await self._chat(request)
                return self._pass(request)
            except MalformedRequest as malformed:
                return self._refuse(400, str(malformed), param=malformed.param)

    async def decide(self, prompt: str, *, all_signals: bool = False) -> Route:
        """Gather signals on ``prompt``, choose a decision, select a model."""
        started = perf_counter()
        gathered = await self._gatherer.gather(prompt, always_encode=all_signals)
        signalled = perf_counter()
        choice = choose(self._routing.decisions, gathered.evaluations, self._routing.strategy)
        selection = self.catalog.select(choice.decision) if choice.decision else self.catalog.default
        timings = {"signals": _ms(started, signalled), "decision": _ms(signalled, perf_counter())}
        if gathered.encoding is not None:
            timings["encoder"] = gathered.encoder_ms
        return Route(gathered, choice, selection, timings)

    # --- paths -----------------------------------------------------------------------------------------------------

    def _get(self, path: str) -> Outcome:
        if path == MODELS_PATH:
            return self._reply(200, orjson.dumps({"object": "list", "data": self.models()}))
        if path.startswith(MODELS_PATH + "/"):
            name = unquote(path.removeprefix(MODELS_PATH + "/"))
            found = next((entry for entry in self.models() if entry["id"] == name), None)
            return self._reply(200, orjson.dumps(found)) if found else self._unknown_model(name)
        if path == HEALTH_PATH:
            return self._reply(200, b'{"status":"ok"}')
        return self._refuse(404, f"no such path: GET {path}")

    def models(self) -> list[dict[str, Any]]:
        """The entries of ``GET /v1/models``, virtual names first."""
        return [
            {"id": entry.name, "object": "model", "created": 0, "owned_by": "triton-router", "parent": entry.parent}
            | ({"description": entry.description} if entry.description else {})
            for entry in self.catalog.listed
        ]

    async def _chat(self, request: Request) -> Outcome:
        started = perf_counter()
        chat = ChatRequest.parse(request.body)
        prompt = chat.prompt()
        name = chat.model
        if name is not None and not self.catalog.is_auto(name):
            return self._to_named(name)
        parsed = perf_counter()
        route = await self.decide(prompt)
        decided = perf_counter()
        body = _rewritten(chat, route)
        finished = perf_counter()
        route.timings.update(parse=_ms(started, parsed), rewrite=_ms(decided, finished), total=_ms(started, finished))
        self._record(request, route)
        return Forward(_upstream(route.selection), body, self._answer_headers(route))

    def _pass(self, request: Request) -> Outcome:
        """The other allowed paths: untouched, to the model that they name, or else to the default one."""
        name = ChatRequest.parse(request.body).model if request.body else None
        if name is None or self.catalog.is_auto(name):
            return self._forward_untouched(self.catalog.default)
        return self._to_named(name)

    def _to_named(self, name: str) -> Outcome:
        selection = self.catalog.concrete(name)
        return self._unknown_model(name) if selection is None else self._forward_untouched(selection)

    def _forward_untouched(self, selection: Selection) -> Forward:
        self._metrics.requests.labels("", selection.model, "passthrough").inc()
        answer = {"x-vsr-selected-model": selection.model, **self._always()}
        return Forward(_upstream(selection), None, answer | {"x-vsr-response-path": "upstream"})

    # --- answers ---------------------------------------------------------------------------------------------------

    def _answer_headers(self, route: Route) -> dict[str, str]:
        selection, decision, domains = route.selection, route.choice.decision, route.gathered.domains
        headers = {"x-vsr-selected-model": selection.model, "x-vsr-response-path": "upstream", **self._always()}
        if decision is not None:
            headers["x-vsr-selected-decision"] = decision.name
            headers["x-vsr-selected-confidence"] = f"{route.choice.confidence:.4f}"
        if domains is not None and domains.winner is not None:
            headers["x-vsr-selected-category"] = domains.winner
        headers["x-vsr-selected-reasoning"] = "on" if selection.use_reasoning else "off"
        if route.gathered.degraded:
            headers["x-vsr-degraded"] = ",".join(route.gathered.degraded)
        headers["server-timing"] = ", ".join(f"{stage};dur={ms:.3f}" for stage, ms in route.timings.items())
        return headers

    def _always(self) -> dict[str, str]:
        return {"x-vsr-config-generation": self.generation}

    def _reply(self, status: int, body: bytes) -> Reply:
        headers = {"content-type": "application/json", **self._always()}
        if status >= 400:
            headers["x-vsr-response-path"] = "error"
        return Reply(status, body, headers)

    def _refuse(self, status: int, message: str, *, code: str | None = None, param: str | None = None) -> Reply:
        self._metrics.requests.labels("", "", "error").inc()
        body = error_body(message, type="invalid_request_error", code=code, param=param)
        return self._reply(status, body)

    def _unknown_model(self, name: str) -> Reply:
        return self._refuse(404, f"The model `{name}` does not exist.", code="model_not_found", param="model")

    def _record(self, request: Request, route: Route) -> None:
        decision, gathered = route.choice.decision, route.gathered
        self._metrics.requests.labels(decision.name if decision else "", route.selection.model, "routed").inc()
        for stage, ms in route.timings.items():
            self._metrics.stage_seconds.labels(stage).observe(ms / 1000)
        for part in gathered.degraded:
            self._metrics.degraded.labels(part).inc()
        fields = {
            "request_id": request.headers.get("x-request-id"),
            "decision": decision.name if decision else None,
            "confidence": round(route.choice.confidence, 4),
            "category": gathered.domains.winner if gathered.domains else None,
            "model": route.selection.model,
            "base": route.selection.base,
            "reasoning": route.selection.use_reasoning,
            "degraded": dict(zip(gathered.degraded, gathered.reasons, strict=True)),
            "ms": {stage: round(ms, 3) for stage, ms in route.timings.items()},
        }
        log.log(logging.WARNING if gathered.degraded else logging.INFO, "routed", extra={"fields": fields})


def _rewritten(chat: ChatRequest, route: Route) -> bytes:
    if route.choice.decision is not None:
        plugins.apply(route.choice.decision.plugins, chat)
    apply_reasoning(chat, route.selection)
    chat.set("model", route.selection.model)
    return chat.encode()


def _upstream(selection: Selection) -> dict[str, str]:
    return {"x-selected-model": selection.model, "x-gateway-base-model-name": selection.base}


def _ms(start: float, end: float) -> float:
    return (end - start) * 1000


__all__ = ["Forward", "Outcome", "Pipeline", "Reply", "Request", "Route", "Unavailable"]

"""The REST service. Request bodies are small pydantic models; errors come in OpenAI's shape."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from functools import partial
from time import perf_counter
from typing import Annotated, Any, TypeVar

import numpy as np
import yaml
from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from triton_router import names, replies
from triton_router.api.advice import advice, request_of
from triton_router.api.classifiers import Inputs, RemoteClassifiers
from triton_router.api.openapi import document, page
from triton_router.api.page import is_page, page_routes
from triton_router.api.responses import error_response, json_response
from triton_router.api.state import ServiceState
from triton_router.api.status import described
from triton_router.api.views import CompareRequest, SendRequest, Views
from triton_router.dialects import DIALECTS, ChatRequest, chat
from triton_router.errors import Refusal, Unavailable, error_body
from triton_router.exchange import Reply
from triton_router.exchange import Request as ProxiedRequest
from triton_router.explain import explain, outgoing
from triton_router.inference import Encoder
from triton_router.jsontext import json_bytes
from triton_router.pipeline import Pipeline
from triton_router.signals import SignalInput, SignalResults

FALLBACK_CATEGORY = "other"
# Needed without a token: probes have none.
OPEN_PATHS = frozenset({names.HEALTH_PATH, names.READY_PATH})
# In the scope of a request: whether it has the token.
TRUSTED = "triton_router.trusted"
# Texts of one batch asked at once: enough for Triton to batch, too few to hold up routed requests.
CONCURRENT = 8

T = TypeVar("T")

Text = Annotated[str, StringConstraints(min_length=1, max_length=1_000_000)]


class ClassifyRequest(BaseModel):
    text: Text


class RouteRequest(BaseModel):
    """A chat request as a client sends it, with or without a virtual model name; more members are welcome."""

    model: str | None = None
    messages: list[dict[str, Any]]


class ExplainRequest(BaseModel):
    """A prompt (``text``), or a whole ``request`` as a client would send it to ``path``.

    ``headers`` are those that a request would bring: session, identity, what an MCP server reads. ``model`` is the
    virtual model that asks for a recipe; default: that of `routing`.
    """

    text: Text | None = None
    request: dict[str, Any] | None = None
    path: str = chat.PATH
    model: str | None = None
    headers: dict[str, str] = {}

    @model_validator(mode="after")
    def _one_of_them(self) -> ExplainRequest:
        if (self.text is None) == (self.request is None):
            raise ValueError("one of `text` and `request` is needed")
        if self.path not in DIALECTS:
            raise ValueError(f"`path` must be one of {', '.join(DIALECTS)}")
        return self


class BatchRequest(BaseModel):
    texts: list[Text] = Field(min_length=1, max_length=100)


class PurgeRequest(BaseModel):
    """One of them: the entry of a key, those of a decision, or all."""

    key: str | None = None
    decision: str | None = None
    all: bool = False

    @model_validator(mode="after")
    def _one_of_them(self) -> PurgeRequest:
        if (self.key is not None) + (self.decision is not None) + self.all != 1:
            raise ValueError("one of `key`, `decision` and `all` is needed")
        return self


class SimilarityRequest(BaseModel):
    text1: Text
    text2: Text


def create_app(
    current: Callable[[], Pipeline],
    token: str | None = None,
    rejected: Callable[[], list[str]] = list,
    purge: Purge | None = None,
    replay: Replay | None = None,
    troubles: Callable[[], dict[str, str]] = dict,
    state: ServiceState | None = None,
) -> Starlette:
    """The application.

    ``current`` returns the pipeline to ask, ``rejected`` what is wrong with a configuration file that is not served,
    ``purge`` empties the caches of all processes and ``replay`` looks decisions up in them (default: that of
    ``current``), ``troubles`` are parts of the service that do not run, each with the reason; ``state`` is what views
    of the page need besides. With ``token`` all but probes and the page itself need it as bearer.
    """
    heads = RemoteClassifiers(lambda: current().encoders)
    rest = _Rest(current, rejected, purge or _purge_of(current), replay or _replay_of(current), troubles)
    routes = [
        Route("/api/v1/classify/intent", rest.classify, methods=["POST"]),
        Route("/classify", heads.or_else(rest.classify), methods=["POST"]),
        Route("/classify/{name}", heads.answer, methods=["POST"]),
        Route("/api/v1/classify/batch", rest.classify_batch, methods=["POST"]),
        Route("/api/v1/embeddings", rest.embeddings, methods=["POST"]),
        Route("/api/v1/similarity", rest.similarity, methods=["POST"]),
        Route("/api/v1/explain", rest.explain, methods=["POST"]),
        Route("/api/v1/route", rest.route, methods=["POST"]),
        Route("/api/v1/cache/purge", rest.purge, methods=["POST"]),
        Route("/api/v1/replay/{id}", rest.replay),
        Route(names.MODELS_PATH, rest.models),
        Route(names.HEALTH_PATH, rest.health),
        Route(names.READY_PATH, rest.ready),
        Route("/info/models", rest.signal_models),
        Route("/config", rest.config),
        Route("/openapi.json", lambda _: json_response(document(_BODIES))),
        Route("/docs", lambda _: Response(page(document(_BODIES)), media_type="text/html")),
    ]
    if current().runtime.config.global_.services.api.page.enabled:
        routes += [*page_routes(), *Views(current, rejected, troubles, state).routes()]
    handlers: Any = {
        HTTPException: _http_error,
        Refusal: _refused,
        ValidationError: _invalid,
        Unavailable: _unavailable,
    }
    middleware = [Middleware(_BearerToken, token=token)] if token else []
    return Starlette(routes=routes, exception_handlers=handlers, middleware=middleware)


_BODIES: dict[str, type[BaseModel]] = {
    "/api/v1/classify/intent": ClassifyRequest,
    "/classify": ClassifyRequest,
    "/classify/{name}": Inputs,
    "/api/v1/classify/batch": BatchRequest,
    "/api/v1/embeddings": BatchRequest,
    "/api/v1/similarity": SimilarityRequest,
    "/api/v1/explain": ExplainRequest,
    "/api/v1/route": RouteRequest,
    "/api/v1/send": SendRequest,
    "/api/v1/compare": CompareRequest,
    "/api/v1/cache/purge": PurgeRequest,
}


Purge = Callable[[str | None, str | None], Awaitable[int]]
"""Removes the entry of a key, those of a decision, or (neither given) all; returns how many there were."""


def _purge_of(current: Callable[[], Pipeline]) -> Purge:
    async def purge(key: str | None, decision: str | None) -> int:
        cache = current().cache
        return await cache.purge(key, decision) if cache is not None else 0

    return purge


Replay = Callable[[str], Awaitable[dict[str, Any] | None]]
"""Finds the record of a decision by its id."""


def _replay_of(current: Callable[[], Pipeline]) -> Replay:
    async def replay(name: str) -> dict[str, Any] | None:
        log = current().journal.replay
        return log.find(name) if log is not None else None

    return replay


class _Rest:
    def __init__(
        self,
        current: Callable[[], Pipeline],
        rejected: Callable[[], list[str]],
        purge: Purge,
        replay: Replay,
        troubles: Callable[[], dict[str, str]],
    ) -> None:
        self._current, self._rejected, self._purge, self._replay = current, rejected, purge, replay
        self._troubles = troubles

    async def classify(self, request: Request) -> Response:
        body = ClassifyRequest.model_validate_json(await request.body())
        started = perf_counter()
        pipeline = self._current()
        record = await pipeline.decide(_query(pipeline, body.text), everything=True)
        signals, choice, selection = record.routing()
        domains = signals.domains
        classification = _classification(signals) | {"processing_time_ms": _ms_since(started)}
        return json_response({
            "classification": classification,
            "probabilities": domains.probabilities if domains else {},
            "routing_decision": choice.decision.name if choice.decision else None,
            "recommended_model": selection.model,
            "matched_signals": _matched(signals.evaluations),
            "degraded": list(signals.degraded),
        })  # fmt: skip

    async def classify_batch(self, request: Request) -> Response:
        body = BatchRequest.model_validate_json(await request.body())
        started = perf_counter()
        pipeline = self._current()
        decide = partial(pipeline.decide, everything=True)
        records = await _few_at_a_time(lambda text: decide(_query(pipeline, text)), body.texts)
        signals = [record.routing()[0] for record in records]
        if all("triton" in each.degraded for each in signals):
            raise Unavailable(next(iter(signals[0].degraded.values())))
        results = [_classification(each) for each in signals]
        counted = {"results": results, "total_count": len(results), "processing_time_ms": _ms_since(started)}
        return json_response(counted)

    async def embeddings(self, request: Request) -> Response:
        body = BatchRequest.model_validate_json(await request.body())
        started = perf_counter()
        encoder = self._encoder()
        vectors = [
            encoding.embedding
            for encoding in await _few_at_a_time(partial(encoder.encode, background=True), body.texts)
        ]
        return json_response({
            "embeddings": [{"embedding": vector.tolist(), "dimension": len(vector)} for vector in vectors],
            "model": encoder.trunk.name,
            "total_count": len(vectors),
            "processing_time_ms": _ms_since(started),
        })  # fmt: skip

    async def similarity(self, request: Request) -> Response:
        body = SimilarityRequest.model_validate_json(await request.body())
        started = perf_counter()
        encoder = self._encoder()
        first, second = await _few_at_a_time(partial(encoder.encode, background=True), [body.text1, body.text2])
        return json_response(
            {"similarity": float(np.dot(first.embedding, second.embedding)), "model": encoder.trunk.name,
             "processing_time_ms": _ms_since(started)}
        )  # fmt: skip

    async def explain(self, request: Request) -> Response:
        body = ExplainRequest.model_validate_json(await request.body())
        pipeline = self._current()
        headers = {name.lower(): value for name, value in body.headers.items()}
        if body.request is None:
            payload = ChatRequest.saying(body.text or "", body.model)
            query = SignalInput(payload, headers, reader=pipeline.runtime.reader)
            return json_response(explain(await pipeline.decide(query, everything=True)))
        raw = json_bytes(body.request)
        record, outcome = await pipeline.preview(ProxiedRequest("POST", body.path, headers, raw))
        explained = explain(record) if record.choice is not None else {}
        return json_response(explained | {"outgoing": outgoing(raw, record, outcome)})

    async def route(self, request: Request) -> Response:
        """What would become of a chat request: the same body and headers that Envoy would see, asked about only."""
        body, pipeline = await request.body(), self._current()
        if len(body) > pipeline.runtime.config.global_.router.max_body_bytes:
            raise HTTPException(413, "the request is larger than `global.router.max_body_bytes`")
        chat = request_of(body, request.headers)
        outcome, record = await pipeline.handle(chat)
        if isinstance(outcome, Reply) and outcome.status != 200:
            again = {name: outcome.headers[name] for name in ("retry-after",) if name in outcome.headers}
            return Response(outcome.body, outcome.status, again, media_type="application/json")
        if record.masked:
            message = "Personal data is masked only in requests whose responses come back through the router."
            return Response(error_body(message, type="permission_error", code="masking_unavailable"), 403)
        return json_response(advice(chat, outcome, record))

    async def purge(self, request: Request) -> Response:
        body = PurgeRequest.model_validate_json(await request.body())
        try:
            removed = await self._purge(body.key, body.decision)
        except Unavailable as error:
            return error_response(503, f"the cache's store is not available: {error.reason}", "cache_unavailable")
        return json_response({"removed": removed})

    async def replay(self, request: Request) -> Response:
        record = await self._replay(request.path_params["id"])
        if record is None:
            raise HTTPException(404, "there is no such record")
        return json_response(record)

    async def models(self, request: Request) -> Response:
        pipeline = self._current()
        listed = replies.models(pipeline.catalog, pipeline.adapters, pipeline.runtime.access)
        return json_response({"object": "list", "data": listed})

    async def health(self, request: Request) -> Response:
        return json_response({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        pipeline = self._current()
        failures = pipeline.encoders.failures if pipeline.encoders else {}
        degraded = ({"triton": next(iter(failures.values()))} if failures else {}) | self._troubles()
        state = {"ready": True, "generation": pipeline.runtime.generation, "degraded": degraded}
        if rejected := self._rejected():
            state["rejected"] = rejected
        if not request.scope.get(TRUSTED, True):
            # Probes have no token, and what is wrong quotes the configuration.
            state = {name: state[name] for name in ("ready", "generation")} | {"degraded": list(degraded)}
        return json_response(state)

    async def signal_models(self, request: Request) -> Response:
        encoders = self._current().encoders
        return json_response({"models": [described(each) for each in encoders.watched] if encoders else []})

    async def config(self, request: Request) -> Response:
        pipeline = self._current()
        if request.query_params.get("format") == "yaml":
            written = pipeline.runtime.config.model_dump(mode="json", by_alias=True, exclude_unset=True)
            return Response(yaml.safe_dump(written, sort_keys=False, allow_unicode=True), media_type="text/plain")
        masked = pipeline.runtime.config.model_dump(mode="json", by_alias=True)
        return json_response({"generation": pipeline.runtime.generation, "config": masked})

    def _encoder(self) -> Encoder:
        """One for all languages: callers keep vectors and compare them."""
        encoder = self._current().recipes.default.gatherer.embedder
        if encoder is None:
            raise HTTPException(503, "this configuration uses no encoder")
        return encoder


def _classification(signals: SignalResults) -> dict[str, Any]:
    """A text's category and confidence. A text that nothing read is not ``read``, and ``reason`` says why: that it is
    in the fallback's category means nothing."""
    domains = signals.domains
    if domains is None:
        reason = next(iter(signals.degraded.values()), "starting")
        return {"category": FALLBACK_CATEGORY, "confidence": 0.0, "read": False, "reason": reason}
    winner = domains.winner
    confidence = domains.confidence if winner else 0.0
    return {"category": winner or FALLBACK_CATEGORY, "confidence": confidence, "read": True}


class _BearerToken:
    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._expected = app, f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            token = dict(scope["headers"]).get(b"authorization", b"")
            scope[TRUSTED] = secrets.compare_digest(token, self._expected)
            if not scope[TRUSTED] and scope["path"] not in OPEN_PATHS and not is_page(scope["path"]):
                refusal = error_response(401, "a bearer token is needed", "invalid_api_key")
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _query(pipeline: Pipeline, text: str) -> SignalInput:
    return SignalInput(ChatRequest.saying(text), reader=pipeline.runtime.reader, background=True)


def _matched(evaluations: Any) -> dict[str, list[str]]:
    matched: dict[str, list[str]] = {}
    for (kind, name), evaluation in evaluations.items():
        if evaluation.matched:
            matched.setdefault(f"{kind}s", []).append(name)
    return matched


async def _few_at_a_time(ask: Callable[[str], Awaitable[T]], texts: list[str]) -> list[T]:
    answers: list[T] = []
    for start in range(0, len(texts), CONCURRENT):
        answers += await asyncio.gather(*map(ask, texts[start : start + CONCURRENT]))
    return answers


def _ms_since(started: float) -> float:
    return round((perf_counter() - started) * 1000, 3)


async def _http_error(request: Request, error: HTTPException) -> Response:
    return error_response(error.status_code, error.detail)


async def _invalid(request: Request, error: ValidationError) -> Response:
    problems = (f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors())
    return error_response(400, "; ".join(problems))


async def _refused(request: Request, error: Refusal) -> Response:
    return error_response(error.status, str(error), error.code)


async def _unavailable(request: Request, error: Unavailable) -> Response:
    return error_response(503, f"the encoder is not available: {error.reason}", "encoder_unavailable")

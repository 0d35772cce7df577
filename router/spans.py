"""One exchange as spans: what happened to a request, by the names of OpenTelemetry's conventions where there are any.

Nothing in them quotes a prompt or an answer. Imported only where tracing is on; docs/tracing.md shows a whole trace.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from time import perf_counter
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from triton_router.config.services import McpSettings
from triton_router.dialects import completions, messages
from triton_router.pipeline import Forward, Outcome, Pipeline, Reply, Request, Route
from triton_router.signals import Evaluation
from triton_router.telemetry.traces import CLIENT, SERVER, Trace, Traces, Value
from triton_router.usage import AnswerSummary

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
Attributes = dict[str, Value]

# Operations that the conventions tell from a chat, by path.
_OPERATIONS = {completions.PATH: "text_completion", "/v1/embeddings": "embeddings"}
_STAGES = ("parse", "signals", "decision", "selection", "rewrite", "cache")
_CODES = {"deadline": "DEADLINE_EXCEEDED", "unreachable": "UNAVAILABLE", "no_model": "NOT_FOUND"}


def traced(current: Callable[[], Pipeline], traces: Traces) -> Callable[[Request], Awaitable[Outcome]]:
    """The current pipeline's ``route``, of whose work ``traces`` sends spans. Only what is posted is traced."""

    async def route(request: Request) -> Outcome:
        pipeline = current()
        if request.method != "POST":
            return await pipeline.route(request)
        began = perf_counter()
        try:
            outcome = await pipeline.route(request)
        except BaseException as error:
            _failed(traces, request, began, type(error).__name__)
            raise
        return _told(traces, pipeline, request, outcome, began) or outcome

    return route


def _quiet(tell: Callable[P, R]) -> Callable[P, R | None]:
    """``tell``, whose mistakes are logged: they are no reason to fail a request."""

    @functools.wraps(tell)
    def quietly(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return tell(*args, **kwargs)
        except Exception as error:
            log.error("an exchange could not be traced", extra={"fields": {"reason": type(error).__name__}})
            return None

    return quietly


@_quiet
def _failed(traces: Traces, request: Request, began: float, error: str) -> None:
    trace = traces.begin(request.headers)
    if trace.sampled:
        _root(trace, request, began, {}, error)


@_quiet
def _told(traces: Traces, pipeline: Pipeline, request: Request, outcome: Outcome, began: float) -> Outcome:
    """Send the spans that are over. Of a forwarded request two stay open until its answer has ended."""
    trace = traces.begin(request.headers)
    if trace.sampled and outcome.route is not None:
        _stages(trace, pipeline, outcome.route, _answer_headers(outcome))
    if isinstance(outcome, Forward):
        return _forwarded(trace, request, outcome, began)
    if trace.sampled:
        status: Attributes = {"http.response.status_code": outcome.status}
        _root(trace, request, began, status | _found(outcome), str(outcome.status) if outcome.status >= 500 else None)
    return outcome


def _forwarded(trace: Trace, request: Request, outcome: Forward, began: float) -> Forward:
    """``outcome`` with the header that makes the backend's spans children of ours."""
    upstream = trace.new()
    if trace.sampled and outcome.observer is not None:
        # Until the answer has ended, and then their bodies would be held as long.
        asked, sent = replace(request, body=b""), replace(outcome, body=None, route=None)
        outcome.observer.tell = functools.partial(_answered, trace, upstream, asked, sent, began, perf_counter())
    # To a trace that is not the caller's, the caller's state does not belong.
    foreign = () if trace.joined or "tracestate" not in request.headers else ("tracestate",)
    headers = {**outcome.headers, "traceparent": trace.traceparent(upstream)}
    return replace(outcome, headers=headers, remove=(*outcome.remove, *foreign))


# --- the request ---------------------------------------------------------------------------------------------------


def _root(trace: Trace, request: Request, began: float, found: Attributes, error: str | None) -> None:
    asked: Attributes = {"http.request.method": request.method, "url.path": request.path.partition("?")[0]}
    if "x-request-id" in request.headers:
        asked["http.request.header.x-request-id"] = [request.headers["x-request-id"]]
    trace.span("route", began, perf_counter(), asked | found, identity=trace.root, kind=SERVER, error=error)


def _answer_headers(outcome: Outcome) -> Mapping[str, str]:
    return outcome.headers if isinstance(outcome, Reply) else outcome.answer_headers


def _found(outcome: Outcome) -> Attributes:
    headers = _answer_headers(outcome)
    degraded = headers.get("x-vsr-degraded")
    return {
        "router.response_path": headers.get("x-vsr-response-path"),
        "router.decision": headers.get("x-vsr-selected-decision"),
        "router.model": headers.get("x-vsr-selected-model"),
        "router.cache.hit": headers.get("x-vsr-cache-hit"),
        "router.degraded": degraded.split(",") if degraded else None,
        "router.config.generation": headers.get("x-vsr-config-generation"),
    }


# --- stages --------------------------------------------------------------------------------------------------------


def _stages(trace: Trace, pipeline: Pipeline, route: Route, headers: Mapping[str, str]) -> None:
    said: dict[str, Attributes] = {
        "decision": _decision(pipeline, route),
        "selection": _selection(route),
        "rewrite": _rewriting(route),
        "cache": _lookup(pipeline, headers),
    }
    for stage in _STAGES:
        if stage in route.stages:
            identity = trace.new()
            if stage == "signals":
                _signals(trace, pipeline, route, identity)
            trace.span(stage, *route.stages[stage], said.get(stage, {}), identity=identity)


def _decision(pipeline: Pipeline, route: Route) -> Attributes:
    decisions, choice = pipeline.config.routing.decisions, route.choice
    matched = [each.name for each, verdict in zip(decisions, choice.verdicts, strict=True) if verdict.matched]
    return {
        "router.decision": choice.decision.name if choice.decision else None,
        "router.decision.confidence": choice.confidence,
        "router.decision.matched": matched,
    }


def _selection(route: Route) -> Attributes:
    selection = route.selection
    return {
        "router.model": selection.model,
        "router.model.base": selection.base,
        "router.adapter": selection.adapter,
        "router.adapter.missing": selection.missing,
        "router.reasoning": selection.use_reasoning,
        "router.hints.refused": list(selection.refused_hints) or None,
    }


def _rewriting(route: Route) -> Attributes:
    plugins = route.choice.decision.plugins if route.choice.decision else ()
    return {"router.plugins": [plugin.type for plugin in plugins if plugin.configuration.enabled]}


def _lookup(pipeline: Pipeline, headers: Mapping[str, str]) -> Attributes:
    similarity = headers.get("x-vsr-cache-similarity")
    return {
        "router.cache.backend": pipeline.config.global_.stores.semantic_cache.backend_type,
        "router.cache.hit": headers.get("x-vsr-cache-hit"),
        "router.cache.similarity": float(similarity) if similarity else None,
    }


# --- signals -------------------------------------------------------------------------------------------------------


def _signals(trace: Trace, pipeline: Pipeline, route: Route, below: int) -> None:
    reasons = dict(zip(route.gathered.degraded, route.gathered.reasons, strict=True))
    if "encoder" in route.stages:
        _encoder_call(trace, pipeline, route, below, reasons.get("triton"))
    if "mcp" in route.stages:
        _mcp_call(trace, pipeline, route, below, reasons.get("mcp"))
    for (kind, name), found in route.gathered.evaluations.items():
        trace.span(f"signal {kind}:{name}", *_evaluated(route, kind, found), _signal(kind, name, found), below=below)


def _evaluated(route: Route, kind: str, found: Evaluation) -> tuple[float, float]:
    """When a signal was evaluated. The encoder's answer and the MCP server's hold several, all of the same time."""
    call = route.gathered.parts.get(kind, kind)
    began, _ = route.stages["signals"]
    return route.stages.get(call, (began, began + found.ms / 1000))


def _signal(kind: str, name: str, found: Evaluation) -> Attributes:
    said: Attributes = {"router.signal.type": kind, "router.signal.name": name}
    if found.matched is not None:
        said |= {"router.signal.matched": found.matched, "router.signal.value": found.value,
                 "router.signal.threshold": found.threshold, "router.signal.measure": found.measure}  # fmt: skip
    return said


def _encoder_call(trace: Trace, pipeline: Pipeline, route: Route, below: int, failure: str | None) -> None:
    encoding = route.gathered.encoding
    said: Attributes = {
        "rpc.system.name": "grpc",
        "rpc.method": "inference.GRPCInferenceService/ModelInfer",
        "rpc.response.status_code": _CODES.get(failure, "INTERNAL") if failure else "OK",
        "router.encoder.trunk": pipeline.encoder.trunk.name if pipeline.encoder else None,
        "router.encoder.windows": encoding.windows if encoding else None,
        **_server(f"//{pipeline.config.global_.inference.endpoint}"),
    }
    name = "inference.GRPCInferenceService/ModelInfer"
    trace.span(name, *route.stages["encoder"], said, below=below, kind=CLIENT, error=failure)


def _mcp_call(trace: Trace, pipeline: Pipeline, route: Route, below: int, failure: str | None) -> None:
    settings = pipeline.config.global_.model_catalog.modules.classifier.mcp or McpSettings(enabled=False, url="-")
    said: Attributes = {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": settings.tool_name,
        "network.transport": "tcp" if settings.transport_type == "http" else "pipe",
        **(_server(settings.url) if settings.transport_type == "http" and settings.url else {}),
    }
    name = f"tools/call {settings.tool_name}"
    trace.span(name, *route.stages["mcp"], said, below=below, kind=CLIENT, error=failure)


def _server(url: str) -> Attributes:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return {"server.address": parts.hostname, "server.port": port}


# --- the answer ----------------------------------------------------------------------------------------------------


@_quiet
def _answered(
    trace: Trace, identity: int, request: Request, sent: Forward, began: float, forwarded: float, heard: AnswerSummary
) -> None:
    """Send the two spans that end with the answer: what the backend did, and the whole."""
    path = request.path.partition("?")[0]
    operation = _OPERATIONS.get(path, "chat")
    model = sent.headers["x-selected-model"]
    said: Attributes = {
        "gen_ai.operation.name": operation,
        # The API that is spoken, not who made the model, as the conventions want it.
        "gen_ai.provider.name": "anthropic" if path == messages.PATH else "openai",
        "gen_ai.request.model": model,
        "router.model.base": sent.headers["x-gateway-base-model-name"],
        "http.response.status_code": heard.status or None,
    }
    events = []
    if heard.first:
        said["gen_ai.response.time_to_first_chunk"] = heard.first - forwarded
        events.append(("first_chunk", heard.first))
    error = _went_wrong(heard)
    trace.span(
        f"{operation} {model}", forwarded, perf_counter(), said | _usage(heard), identity=identity, kind=CLIENT,
        events=events, error=error,
    )  # fmt: skip
    # A mistake of the caller's is no failure of the server.
    status: Attributes = {"http.response.status_code": heard.status or None}
    _root(trace, request, began, status | _found(sent), None if 400 <= heard.status < 500 else error)


def _went_wrong(heard: AnswerSummary) -> str | None:
    if heard.status == 0:
        return "no_answer"
    if heard.status >= 400:
        return str(heard.status)
    return "incomplete" if heard.answer is not None and not heard.whole else None


def _usage(heard: AnswerSummary) -> Attributes:
    answer = heard.answer
    if answer is None:
        return {}
    usage = answer.usage
    said: Attributes = {
        "gen_ai.request.stream": True if answer.streamed else None,
        "gen_ai.response.model": answer.model,
        "gen_ai.response.finish_reasons": [answer.finish_reason] if answer.finish_reason else None,
    }
    if usage is not None:
        said |= {"gen_ai.usage.input_tokens": usage.prompt, "gen_ai.usage.output_tokens": usage.completion,
                 "gen_ai.usage.cache_read.input_tokens": usage.cached or None}  # fmt: skip
    return said

"""One exchange as spans: what happened to a request, by the names of OpenTelemetry's conventions where there are any.

Nothing in them quotes a prompt or an answer. Imported only where tracing is on; docs/tracing.md shows a whole trace.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import perf_counter
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

from triton_router import names
from triton_router.config.services import McpSettings
from triton_router.exchange import Forward, Outcome, Request
from triton_router.pipeline import Pipeline
from triton_router.record import Record
from triton_router.runtime import Runtime
from triton_router.signals import Evaluation
from triton_router.telemetry.traces import CLIENT, SERVER, Trace, Traces, Value
from triton_router.usage import AnswerSummary, UsageObserver

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")
Attributes = dict[str, Value]

# Operations that the conventions tell from a chat, by path.
_OPERATIONS = {names.COMPLETIONS_PATH: "text_completion", names.EMBEDDINGS_PATH: "embeddings"}
_STAGES = ("parse", "signals", "decision", "selection", "rewrite", "cache")
_INFER = "inference.GRPCInferenceService/ModelInfer"
_CODES = {"deadline": "DEADLINE_EXCEEDED", "unreachable": "UNAVAILABLE", "no_model": "NOT_FOUND"}


def traced(current: Callable[[], Pipeline], traces: Traces) -> Callable[[Request], Awaitable[Outcome]]:
    """The current pipeline's ``route``, of whose work ``traces`` sends spans. Only what is posted is traced."""

    async def route(request: Request) -> Outcome:
        pipeline = current()
        if request.method != "POST":
            return await pipeline.route(request)
        began = perf_counter()
        try:
            outcome, record = await pipeline.handle(request)
        except BaseException as error:
            _trace_failure(traces, request, began, type(error).__name__)
            raise
        return _trace_outcome(traces, pipeline, request, outcome, record, began) or outcome

    return route


def _never_raises(function: Callable[P, R]) -> Callable[P, R | None]:
    """``function``, whose mistakes are logged: they are no reason to fail a request."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R | None:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            log.error("an exchange could not be traced", extra={"fields": {"reason": type(error).__name__}})
            return None

    return call


@_never_raises
def _trace_failure(traces: Traces, request: Request, began: float, error: str) -> None:
    trace = traces.begin(request.headers)
    if trace.sampled:
        _root(trace, _request(request), began, {}, error)


@_never_raises
def _trace_outcome(
    traces: Traces, pipeline: Pipeline, request: Request, outcome: Outcome, record: Record, began: float
) -> Outcome:
    """Send the spans that are over. Two spans of a forwarded request stay open until its response has ended."""
    trace = traces.begin(request.headers)
    if trace.sampled and record.signals is not None and record.error is None:
        _stages(trace, pipeline, record)
    if isinstance(outcome, Forward):
        return _trace_forward(trace, request, outcome, record, began)
    if trace.sampled:
        status: Attributes = {"http.response.status_code": outcome.status}
        error = str(outcome.status) if outcome.status >= 500 else None
        _root(trace, _request(request), began, status | _result(record), error)
    return outcome


def _trace_forward(trace: Trace, request: Request, outcome: Forward, record: Record, began: float) -> Forward:
    """``outcome`` with the header that makes the backend's spans children of ours."""
    upstream = trace.new()
    if trace.sampled and isinstance(outcome.observer, UsageObserver):
        # Only this stays until the response has ended: no body, no record of signals.
        root, backend = _request(request) | _result(record), _backend(request, record)
        outcome.observer.listener = functools.partial(
            _trace_response, trace, upstream, root, backend, began, perf_counter()
        )
    # To a trace that is not the caller's, the caller's state does not belong.
    foreign = () if trace.joined or names.TRACESTATE not in request.headers else (names.TRACESTATE,)
    headers = {**outcome.headers, names.TRACEPARENT: trace.traceparent(upstream)}
    return replace(outcome, headers=headers, remove=(*outcome.remove, *foreign))


# --- the request ---------------------------------------------------------------------------------------------------


def _root(trace: Trace, request: Attributes, began: float, result: Attributes, error: str | None) -> None:
    trace.span("route", began, perf_counter(), request | result, identity=trace.root, kind=SERVER, error=error)


def _request(request: Request) -> Attributes:
    attributes: Attributes = {"http.request.method": request.method, "url.path": request.path.partition("?")[0]}
    if names.REQUEST_ID in request.headers:
        attributes["http.request.header.x-request-id"] = [request.headers[names.REQUEST_ID]]
    return attributes


def _result(record: Record) -> Attributes:
    result: Attributes = {
        "router.response_path": record.response_path,
        "router.config.generation": record.generation,
    }
    if record.error is None and record.selection is not None:
        result |= {
            "router.decision": record.decision.name if record.decision else None,
            "router.model": record.selection.model,
            "router.cache.hit": record.cache_hit,
            "router.fallback.failed": [f"{model}: {reason}" for model, reason in record.failures] or None,
            "router.degraded": list(record.degraded) or None,
        }
    return result


# --- stages --------------------------------------------------------------------------------------------------------


def _stages(trace: Trace, pipeline: Pipeline, record: Record) -> None:
    attributes: dict[str, Attributes] = {
        "decision": _decision(record),
        "selection": _selection(record),
        "rewrite": _rewriting(record),
        "cache": _lookup(pipeline.runtime, record),
    }
    for stage in _STAGES:
        if stage in record.stages:
            identity = trace.new()
            if stage == "signals":
                _signals(trace, pipeline, record, identity)
            trace.span(stage, *record.stages[stage], attributes.get(stage, {}), identity=identity)


def _decision(record: Record) -> Attributes:
    _, choice, _ = record.routing()
    verdicts = zip(record.decisions, choice.verdicts, strict=True)
    return {
        "router.recipe": record.recipe.name or None if record.recipe else None,
        "router.decision": choice.decision.name if choice.decision else None,
        "router.decision.confidence": choice.confidence,
        "router.decision.matched": [decision.name for decision, verdict in verdicts if verdict.matched],
    }


def _selection(record: Record) -> Attributes:
    _, _, selection = record.routing()
    return {
        "router.model": selection.model,
        "router.model.base": selection.base,
        "router.adapter": selection.adapter,
        "router.adapter.missing": selection.missing,
        "router.reasoning": selection.use_reasoning,
        "router.hints.refused": list(selection.refused_hints) or None,
    }


def _rewriting(record: Record) -> Attributes:
    plugins = record.decision.plugins if record.decision else ()
    return {"router.plugins": [plugin.type for plugin in plugins if plugin.configuration.enabled]}


def _lookup(runtime: Runtime, record: Record) -> Attributes:
    return {
        "router.cache.backend": runtime.cache.settings.backend_type if runtime.cache else None,
        "router.cache.hit": record.cache_hit,
        "router.cache.similarity": round(record.hit.similarity, 4) if record.hit else None,
    }


# --- signals -------------------------------------------------------------------------------------------------------


def _signals(trace: Trace, pipeline: Pipeline, record: Record, below: int) -> None:
    signals, _, _ = record.routing()
    if "encoder" in record.stages:
        _encoder_call(trace, pipeline, record, below, signals.degraded.get("triton"))
    if "mcp" in record.stages:
        _mcp_call(trace, pipeline.runtime, record, below, signals.degraded.get("mcp"))
    for (kind, name), signal in signals.evaluations.items():
        trace.span(
            f"signal {kind}:{name}", *_evaluation_time(record, kind, signal), _signal(kind, name, signal), below=below
        )


def _evaluation_time(record: Record, kind: str, signal: Evaluation) -> tuple[float, float]:
    """When a signal was evaluated. The encoder's answer and the MCP server's hold several, all of the same time."""
    signals, _, _ = record.routing()
    call = signals.parts.get(kind, kind)
    began, _ = record.stages["signals"]
    return record.stages.get(call, (began, began + signal.ms / 1000))


def _signal(kind: str, name: str, signal: Evaluation) -> Attributes:
    attributes: Attributes = {"router.signal.type": kind, "router.signal.name": name}
    if signal.matched is not None:
        attributes |= {
            "router.signal.matched": signal.matched,
            "router.signal.value": signal.value,
            "router.signal.threshold": signal.threshold,
            "router.signal.measure": signal.measure,
        }
    return attributes


def _encoder_call(trace: Trace, pipeline: Pipeline, record: Record, below: int, failure: str | None) -> None:
    signals, _, _ = record.routing()
    attributes: Attributes = {
        "rpc.system.name": "grpc",
        "rpc.method": _INFER,
        "rpc.response.status_code": _CODES.get(failure, "INTERNAL") if failure else "OK",
        "router.encoder.trunk": signals.encoding.trunk if signals.encoding else None,
        "router.encoder.windows": signals.encoding.windows if signals.encoding else None,
        **_server(f"//{pipeline.runtime.config.global_.inference.endpoint}"),
    }
    trace.span(_INFER, *record.stages["encoder"], attributes, below=below, kind=CLIENT, error=failure)


def _mcp_call(trace: Trace, runtime: Runtime, record: Record, below: int, failure: str | None) -> None:
    settings = runtime.mcp or McpSettings(enabled=False, url="-")
    attributes: Attributes = {
        "mcp.method.name": "tools/call",
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": settings.tool_name,
        "network.transport": "tcp" if settings.transport_type == "http" else "pipe",
        **(_server(settings.url) if settings.transport_type == "http" and settings.url else {}),
    }
    name = f"tools/call {settings.tool_name}"
    trace.span(name, *record.stages["mcp"], attributes, below=below, kind=CLIENT, error=failure)


def _server(url: str) -> Attributes:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return {"server.address": parts.hostname, "server.port": port}


# --- the response --------------------------------------------------------------------------------------------------


def _backend(request: Request, record: Record) -> Attributes:
    path = request.path.partition("?")[0]
    return {
        "gen_ai.operation.name": _OPERATIONS.get(path, "chat"),
        # The API that is spoken, not who made the model, as the conventions want it.
        "gen_ai.provider.name": "anthropic" if path == names.MESSAGES_PATH else "openai",
        "gen_ai.request.model": record.selection.model if record.selection else None,
        "router.model.base": record.selection.base if record.selection else None,
    }


@_never_raises
def _trace_response(
    trace: Trace,
    identity: int,
    root: Attributes,
    backend: Attributes,
    began: float,
    forwarded: float,
    summary: AnswerSummary,
) -> None:
    """Send the two spans that end with the response: what the backend did, and the whole."""
    status: Attributes = {"http.response.status_code": summary.status or None}
    attributes, events, error = backend | status | _usage(summary), [], _error(summary)
    if summary.first:
        attributes["gen_ai.response.time_to_first_chunk"] = summary.first - forwarded
        events.append(("first_chunk", summary.first))
    trace.span(
        f"{backend['gen_ai.operation.name']} {backend['gen_ai.request.model']}", forwarded, perf_counter(), attributes,
        identity=identity, kind=CLIENT, events=events, error=error,
    )  # fmt: skip
    # A mistake of the caller's is no failure of the server.
    _root(trace, root, began, status, None if 400 <= summary.status < 500 else error)


def _error(summary: AnswerSummary) -> str | None:
    if summary.status == 0:
        return "no_answer"
    if summary.status >= 400:
        return str(summary.status)
    return "incomplete" if summary.answer is not None and not summary.whole else None


def _usage(summary: AnswerSummary) -> Attributes:
    answer = summary.answer
    if answer is None:
        return {}
    usage = answer.usage
    attributes: Attributes = {
        "gen_ai.request.stream": True if answer.streamed else None,
        "gen_ai.response.model": answer.model,
        "gen_ai.response.finish_reasons": [answer.finish_reason] if answer.finish_reason else None,
    }
    if usage is not None:
        attributes |= {"gen_ai.usage.input_tokens": usage.prompt, "gen_ai.usage.output_tokens": usage.completion,
                       "gen_ai.usage.cache_read.input_tokens": usage.cached or None}  # fmt: skip
    return attributes

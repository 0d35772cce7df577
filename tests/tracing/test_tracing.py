"""What a trace says, over real OTLP; and what tracing does to requests when nobody collects."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from collector import Span, collecting, collecting_over_http
from local_stack import REPOSITORY, free_port, wait_for
from serving import eventually

from triton_router.config import ConfigError, Problem, loads
from triton_router.config.observability import TracingSettings
from triton_router.dialects.chat import PATH as CHAT_PATH
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.names import ATTEMPT, FAILURE
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.signals.mcp import McpClassifier
from triton_router.spans import traced
from triton_router.telemetry import Metrics, traces
from triton_router.telemetry.traces import Traces

CONFIG = """
providers:
  models:
    - {name: big, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: small, backend_refs: [{endpoint: "127.0.0.1:2"}]}
  defaults: {default_model: small}
routing:
  signals:
    keywords:
      - {name: thorough, keywords: [step by step]}
      - {name: greeting, keywords: [good morning], parts: [all]}
      - {name: never, keywords: [xyzzy]}
  decisions:
    - name: think
      priority: 2
      rules:
        operator: OR
        conditions: [{type: keyword, name: thorough}, {type: keyword, name: never}]
      modelRefs: [{model: big, use_reasoning: true}]
      plugins: [{type: system_prompt, configuration: {system_prompt: a hidden instruction}}]
    - name: greet
      rules: {type: keyword, name: greeting}
      modelRefs: [{model: small}]
      plugins: [{type: fast_response, configuration: {message: Good morning.}}]
"""
PROMPT = "step by step: a secret prompt"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FROM_CALLER = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
SSE, JSON = {"content-type": "text/event-stream"}, {"content-type": "application/json"}
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}


def settings(port: int, **changes: Any) -> TracingSettings:
    exporter = {"endpoint": f"127.0.0.1:{port}", "insecure": True, **changes.pop("exporter", {})}
    return TracingSettings.model_validate({"enabled": True, "exporter": exporter, **changes})


def pipeline(text: str = CONFIG, classifier: McpClassifier | None = None) -> Pipeline:
    return Pipeline(compile_runtime(loads(text)), None, TopicParameters(), Metrics(), classifier=classifier)


def make_request(
    prompt: str = PROMPT, headers: dict[str, str] | None = None, path: str = CHAT_PATH, **body: Any
) -> Request:
    body = {"model": "MoM", "messages": [{"role": "user", "content": prompt}], **body}
    return Request("POST", path, headers or {}, json.dumps(body).encode())


def answered(outcome: Outcome, *pieces: bytes, status: int = 200, headers: dict[str, str] = JSON) -> None:
    """Let the backend answer as Envoy would show it."""
    assert isinstance(outcome, Forward) and outcome.observer is not None
    if status:
        watched = outcome.observer.on_headers(status, headers)
        assert watched == (bool(pieces) and status == 200)
    for piece in pieces:
        outcome.observer.on_body(piece)
    if pieces:
        outcome.observer.on_complete()
    outcome.observer.on_end()


def completion(**members: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": "a secret answer"}, "finish_reason": "stop"}
    return json.dumps({"model": "big-v2", "choices": [choice], "usage": USAGE, **members}).encode()


@contextmanager
def sending(made: TracingSettings, metrics: Metrics | None = None, **more: Any) -> Iterator[Traces]:
    made_of = Traces(made, metrics or Metrics(), **more)
    try:
        yield made_of
    finally:
        made_of.close(5)


def one(spans: list[Span], name: str) -> Span:
    (match,) = [span for span in spans if span.name == name]
    return match


def parents(spans: list[Span]) -> dict[str, str]:
    names = {span.id: span.name for span in spans}
    return {span.name: names.get(span.parent, span.parent) for span in spans}


# --- what a trace says ---------------------------------------------------------------------------------------------


async def test_an_exchange_is_one_tree_below_the_callers_span() -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        route = traced(pipeline, made)
        outcome = await route(
            make_request(headers={**FROM_CALLER, "x-request-id": "r-1"}, path=CHAT_PATH + "?key=secret")
        )
        answered(outcome, completion())
        spans = collector.whole()
    assert {span.trace for span in spans} == {TRACE}
    assert parents(spans) == {
        "route": CALLER, "parse": "route", "signals": "route", "decision": "route", "selection": "route",
        "rewrite": "route", "chat big": "route", "signal keyword:thorough": "signals",
        "signal keyword:greeting": "signals", "signal keyword:never": "signals",
    }  # fmt: skip
    kinds = {span.name: span.kind for span in spans if span.kind != "INTERNAL"}
    assert kinds == {"route": "SERVER", "chat big": "CLIENT"}
    root = one(spans, "route")
    assert root.attributes == {
        "http.request.method": "POST", "url.path": CHAT_PATH, "http.request.header.x-request-id": ["r-1"],
        "http.response.status_code": 200, "router.response_path": "upstream", "router.decision": "think",
        "router.model": "big", "router.config.generation": loads(CONFIG).digest[:12],
    }  # fmt: skip
    assert one(spans, "signal keyword:thorough").attributes == {
        "router.signal.type": "keyword", "router.signal.name": "thorough", "router.signal.matched": True,
        "router.signal.value": 1.0, "router.signal.measure": 1,
    }  # fmt: skip
    assert one(spans, "signal keyword:never").attributes["router.signal.matched"] is False
    assert one(spans, "decision").attributes["router.decision.matched"] == ["think"]
    assert one(spans, "selection").attributes["router.reasoning"] is True
    assert one(spans, "rewrite").attributes == {"router.plugins": ["system_prompt"]}
    assert all(root.began <= span.began <= span.ended <= root.ended for span in spans)
    assert not any(span.failed for span in spans)


async def test_the_upstream_leg_speaks_of_tokens_and_of_how_it_ended() -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        answered(await traced(pipeline, made)(make_request()), completion())
        chat = one(collector.whole(), "chat big")
    assert chat.attributes == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "big",
        "gen_ai.response.model": "big-v2", "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 12, "gen_ai.usage.output_tokens": 3, "gen_ai.usage.cache_read.input_tokens": 4,
        "http.response.status_code": 200, "router.model.base": "big",
    }  # fmt: skip
    assert chat.events == []


async def test_a_sampled_stream_is_read_to_its_end() -> None:
    """Otherwise nobody would watch it: the settings leave streams alone."""

    def chunk(**choice: Any) -> bytes:
        return b"data: " + json.dumps({"model": "big-v2", "choices": [{"index": 0, **choice}]}).encode() + b"\n\n"

    with collecting() as collector, sending(settings(collector.port)) as made:
        pieces = [chunk(delta={"content": "a"}), chunk(delta={}, finish_reason="length"), b"data: [DONE]\n\n"]
        answered(await traced(pipeline, made)(make_request(stream=True)), *pieces, headers=SSE)
        chat = one(collector.whole(), "chat big")
    assert chat.attributes["gen_ai.request.stream"] is True
    assert chat.attributes["gen_ai.response.finish_reasons"] == ["length"]
    assert chat.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert chat.events == ["first_chunk"]


MESSAGE = {"type": "message_start", "message": {"model": "big-v2", "usage": {"input_tokens": 5, "output_tokens": 1}}}
RESPONSE = {"type": "response.completed", "response": {"model": "big-v2", "status": "completed", "output": []}}


@pytest.mark.parametrize(("path", "event", "operation", "provider"), [
    ("/v1/messages", MESSAGE, "chat", "anthropic"), ("/v1/responses", RESPONSE, "chat", "openai"),
    ("/v1/completions", {"model": "big-v2", "choices": []}, "text_completion", "openai"),
])  # fmt: skip
async def test_the_other_apis_are_told_apart(path: str, event: Any, operation: str, provider: str) -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        request = make_request(path=path, model="big", stream=True, max_tokens=5, input="x", prompt="x")
        answered(await traced(pipeline, made)(request), b"data: " + json.dumps(event).encode() + b"\n\n", headers=SSE)
        attributes = one(collector.whole(), f"{operation} big").attributes
    assert (attributes["gen_ai.response.model"], attributes["gen_ai.provider.name"]) == ("big-v2", provider)


@pytest.mark.parametrize(("status", "pieces", "error", "root_failed"), [
    (503, [], "503", True), (404, [], "404", False), (0, [], "no_answer", True),
])  # fmt: skip
async def test_what_went_wrong_upstream(status: int, pieces: list[bytes], error: str, root_failed: bool) -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        answered(await traced(pipeline, made)(make_request()), *pieces, status=status)
        spans = collector.whole()
    assert one(spans, "chat big").attributes["error.type"] == error
    assert one(spans, "chat big").failed
    assert one(spans, "route").failed is root_failed


async def test_a_failed_attempt_is_an_earlier_span_of_the_same_trace() -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        current = pipeline(CONFIG + "  fallback: {models: [small]}\n")
        route = traced(lambda: current, made)
        request = replace(make_request(headers=FROM_CALLER), falls_back=True)
        first = await route(request)
        assert isinstance(first, Forward) and first.body is not None
        answered(first, status=0)
        headers = {**request.headers, **first.headers, ATTEMPT: first.attempt, FAILURE: "503 "}
        answered(await route(replace(request, headers=headers, body=first.body)), completion())
        spans = collector.whole(2)
    failed, last = sorted((span for span in spans if span.name == "route"), key=lambda span: span.began)
    assert (failed.trace, failed.parent, last.trace) == (TRACE, CALLER, TRACE)
    assert last.parent == one(spans, "chat big").id
    assert "router.fallback.failed" not in failed.attributes
    assert last.attributes["router.fallback.failed"] == ["big: 503"]
    assert last.attributes["router.model"] == "small"


async def test_an_answer_that_breaks_off_is_incomplete() -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        outcome = await traced(pipeline, made)(make_request(stream=True))
        assert isinstance(outcome, Forward) and outcome.observer is not None
        assert outcome.observer.on_headers(200, SSE)
        outcome.observer.on_body(b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n')
        outcome.observer.on_end()
        assert one(collector.whole(), "chat big").attributes["error.type"] == "incomplete"


async def test_answers_of_the_routers_own_have_no_upstream_leg() -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        route = traced(pipeline, made)
        greeted = await route(make_request("Good morning!"))
        refused = await route(Request("POST", CHAT_PATH, {}, b"no json"))
        health = await route(Request("GET", "/health"))
        spans = collector.whole(2)
    assert isinstance(greeted, Reply) and isinstance(refused, Reply) and isinstance(health, Reply)
    first, second = collector.named("route")
    assert first.attributes["router.response_path"] == "fast_response" and not first.failed
    assert second.attributes["http.response.status_code"] == 400 and not second.failed
    assert not any(span.kind == "CLIENT" for span in spans)


async def test_named_models_and_other_paths_have_their_upstream_leg() -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        route = traced(pipeline, made)
        answered(await route(make_request(model="small")), completion())
        answered(await route(make_request(path="/v1/embeddings", model="small", input="x")))
        collector.whole(2)
    assert [span.name for span in collector.spans] == ["chat small", "route", "embeddings small", "route"]
    assert not any(span.failed for span in collector.spans)


async def test_nothing_quotes_a_prompt_an_answer_or_a_query() -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        route = traced(pipeline, made)
        answered(
            await route(make_request(path=CHAT_PATH + "?key=secret", headers={"authorization": "secret"})), completion()
        )
        collector.whole()
    assert b"secret" not in collector.raw and b"hidden" not in collector.raw


async def test_what_no_span_can_carry_is_made_carriable() -> None:
    """A lone surrogate, which a header or an answer can hold, would take every other span of its batch along."""
    with collecting() as collector, sending(settings(collector.port)) as made:
        outcome = await traced(pipeline, made)(make_request(headers={"x-request-id": "\udcff" + "x" * 5000}))
        answered(outcome, completion())
        (identity,) = one(collector.whole(), "route").attributes["http.request.header.x-request-id"]
    assert identity == "?" + "x" * 255


async def test_a_failure_of_the_router_is_told_and_passed_on() -> None:
    class Broken:
        async def handle(self, request: Request) -> Outcome:
            raise ZeroDivisionError("secret")

    with collecting() as collector, sending(settings(collector.port)) as made:
        with pytest.raises(ZeroDivisionError):
            await traced(Broken, made)(make_request())  # type: ignore[arg-type]
        (root,) = collector.whole()
    assert root.failed and root.attributes["error.type"] == "ZeroDivisionError"
    assert b"secret" not in collector.raw


MCP_SERVER = """
from mcp.server import MCPServer

server = MCPServer("judge", log_level="ERROR")

@server.tool()
def classify_text(text: str, with_probabilities: bool) -> dict[str, object]:
    return {"class": "tenant", "confidence": 0.9}

server.run("stdio")
"""


async def test_the_call_to_an_mcp_server_is_a_client_span(tmp_path: Any) -> None:
    (tmp_path / "server.py").write_text(MCP_SERVER)
    judge = {"transport_type": "stdio", "command": sys.executable, "args": [str(tmp_path / "server.py")],
             "timeout_seconds": 10}  # fmt: skip
    text = json.dumps({
        "providers": {"models": [{"name": "small", "backend_refs": [{"endpoint": "127.0.0.1:2"}]}]},
        "routing": {"signals": {"mcp": [{"name": "tenant"}]},
                    "decisions": [{"name": "d", "rules": {"type": "mcp", "name": "tenant"},
                                   "modelRefs": [{"model": "small"}]}]},
        "global": {"model_catalog": {"modules": {"classifier": {"mcp": judge}}}},
    })  # fmt: skip
    mcp = loads(text).config.global_.model_catalog.modules.classifier.mcp
    assert mcp is not None
    classifier = McpClassifier(mcp)
    session = asyncio.create_task(classifier.run())
    try:
        await eventually(lambda: classifier.failure is None)
        with collecting() as collector, sending(settings(collector.port)) as made:
            routes = pipeline(text, classifier)
            answered(await traced(lambda: routes, made)(make_request()), completion())
            spans = collector.whole()
    finally:
        session.cancel()
        await asyncio.gather(session, return_exceptions=True)
    call, signal = one(spans, "tools/call classify_text"), one(spans, "signal mcp:tenant")
    assert parents(spans)[call.name] == parents(spans)[signal.name] == "signals"
    assert call.kind == "CLIENT" and not call.failed
    assert call.attributes == {
        "mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "classify_text",
        "network.transport": "pipe",
    }  # fmt: skip
    assert (signal.began, signal.ended) == (call.began, call.ended)
    assert signal.attributes["router.signal.value"] == 0.9


# --- whose trace it is, and whether it is one ----------------------------------------------------------------------


async def test_the_backend_is_told_of_the_span_that_waits_for_it() -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        outcome = await traced(pipeline, made)(make_request(headers={**FROM_CALLER, "tracestate": "vendor=1"}))
        answered(outcome, completion())
        chat = one(collector.whole(), "chat big")
    assert isinstance(outcome, Forward)
    assert outcome.headers["traceparent"] == f"00-{TRACE}-{chat.id}-01"
    # The caller's state goes on as it came.
    assert "tracestate" not in outcome.remove and chat.state == "vendor=1"


@pytest.mark.parametrize("header", ["", "00-zz-zz-01", f"00-{'0' * 32}-{CALLER}-01", f"ff-{TRACE}-{CALLER}-01",
                                    f"00-{TRACE}-{CALLER}-01, 00-{TRACE}-{CALLER}-01",
                                    f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE.upper()}-{CALLER}-01",
                                    f"00-{TRACE}-{CALLER}-01-more", f"00-{TRACE}-{CALLER}-01\n"])  # fmt: skip
async def test_a_caller_whose_header_cannot_be_read_gets_a_trace_of_its_own(header: str) -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        outcome = await traced(pipeline, made)(make_request(headers={"traceparent": header, "tracestate": "vendor=1"}))
        answered(outcome, completion())
        root = one(collector.whole(), "route")
    assert isinstance(outcome, Forward)
    assert root.parent == "" and root.trace != TRACE and root.state == ""
    assert outcome.headers["traceparent"].startswith(f"00-{root.trace}-")
    assert "tracestate" in outcome.remove


async def test_a_version_to_come_is_read_as_far_as_it_is_known() -> None:
    with collecting() as collector, sending(settings(collector.port)) as made:
        headers = {"traceparent": f"01-{TRACE}-{CALLER}-01-more", "tracestate": ",,;;=x"}
        answered(await traced(pipeline, made)(make_request(headers=headers)), completion())
        root = one(collector.whole(), "route")
    assert (root.trace, root.parent, root.state) == (TRACE, CALLER, "")


LOW, HIGH = "0" * 31 + "1", "f" * 32


@pytest.mark.parametrize(("kind", "rate", "caller", "sampled"), [
    ("always_on", 1, None, True), ("always_on", 1, (TRACE, "00"), True), ("always_off", 1, (TRACE, "01"), False),
    ("traceidratio", 0.5, (LOW, "00"), True), ("traceidratio", 0.5, (HIGH, "01"), False),
    ("probabilistic", 0.5, (LOW, "00"), True), ("probabilistic", 0.5, (HIGH, "01"), False),
    ("traceidratio", 0, None, False), ("traceidratio", 1, None, True),
    ("parentbased_always_on", 1, (TRACE, "00"), False), ("parentbased_always_on", 1, None, True),
    ("parentbased_always_off", 1, (TRACE, "01"), True), ("parentbased_always_off", 1, None, False),
    ("parentbased_traceidratio", 0, (TRACE, "01"), True), ("parentbased_traceidratio", 1, (TRACE, "00"), False),
    ("parentbased_traceidratio", 1, None, True),
])  # fmt: skip
async def test_sampling(kind: str, rate: float, caller: tuple[str, str] | None, sampled: bool) -> None:
    headers = {"traceparent": f"00-{caller[0]}-{CALLER}-{caller[1]}"} if caller else {}
    with collecting() as collector:
        with sending(settings(collector.port, sampling={"type": kind, "rate": rate})) as made:
            outcome = await traced(pipeline, made)(make_request(headers=headers))
            answered(outcome, completion())
        spans = collector.spans
    assert isinstance(outcome, Forward)
    version, trace, span, flags = outcome.headers["traceparent"].split("-")
    # The backend is told of the decision either way, or it would make one of its own.
    assert (version, flags) == ("00", "01" if sampled else "00")
    assert caller is None or trace == caller[0]
    assert span != CALLER and bool(spans) is sampled


async def test_a_request_that_is_not_sampled_asks_for_no_more_of_the_answer() -> None:
    with sending(settings(free_port(), sampling={"type": "always_off"})) as made:
        outcome = await traced(pipeline, made)(make_request(stream=True))
        assert isinstance(outcome, Forward) and outcome.observer is not None
        assert not outcome.observer.on_headers(200, SSE)


# --- where spans go ------------------------------------------------------------------------------------------------


async def test_an_exchange_that_is_traced_holds_no_bodies() -> None:
    with sending(settings(free_port())) as made:
        route, ours = traced(lambda: ours, made), pipeline()
        answered(await route(make_request()), completion())
        gc.disable()
        tracemalloc.start()
        try:
            outcome = await route(make_request(PROMPT + "x" * 4_000_000))
            assert isinstance(outcome, Forward)
            observer = outcome.observer
            del outcome
            # The log line and the metrics come behind the answer.
            await asyncio.sleep(0.01)
            while_open, _ = tracemalloc.get_traced_memory()
            answered(Forward({}, observer=observer), completion())
            del observer
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            gc.enable()
    assert max(while_open, after) < 1_000_000


async def test_spans_say_who_sent_them() -> None:
    resource = {"service_name": "edge", "deployment_environment": "staging"}
    exporter = {"headers": {"Authorization": "Bearer t"}}
    with collecting() as collector:
        with sending(settings(collector.port, resource=resource, exporter=exporter)) as made:
            answered(await traced(pipeline, made)(make_request()), completion())
        (resource_json,) = {json.dumps(span.resource, sort_keys=True) for span in collector.spans}
    assert (
        json.loads(resource_json).items() >= {"service.name": "edge", "deployment.environment.name": "staging"}.items()
    )
    assert {"service.version", "service.instance.id"} <= json.loads(resource_json).keys()
    assert collector.headers["authorization"] == "Bearer t"


@pytest.mark.parametrize(("behind", "path"), [("", "/v1/traces"), ("/otlp/v1/traces", "/otlp/v1/traces")])
async def test_over_http(behind: str, path: str) -> None:
    with collecting_over_http() as collector:
        endpoint = f"127.0.0.1:{collector.port}{behind}"
        with sending(settings(0, exporter={"type": "otlp_http", "endpoint": endpoint})) as made:
            answered(await traced(pipeline, made)(make_request()), completion())
        assert one(collector.spans, "chat big")
        assert collector.headers["path"] == path


async def test_to_standard_output_a_line_each() -> None:
    out = io.StringIO()
    with sending(settings(1, exporter={"type": "stdout"}), out=out) as made:
        answered(await traced(pipeline, made)(make_request()), completion())
    names = [json.loads(line)["name"] for line in out.getvalue().splitlines()]
    assert {"route", "chat big", "signals"} <= set(names)


def counted(metrics: Metrics, result: str) -> float:
    return metrics.registry.get_sample_value("router_trace_spans_total", {"result": result}) or 0.0


async def test_without_a_collector_requests_go_on_and_one_line_says_what_is_lost(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "SEND_WITHIN", 0.5)
    port, metrics = free_port(), Metrics()
    with caplog.at_level(logging.INFO), sending(settings(port), metrics) as made:
        route = traced(pipeline, made)
        for lost in (0.0, 10.0):
            answered(await route(make_request()), completion())
            wait_for(lambda lost=lost: counted(metrics, "lost") > lost, "lost spans")  # type: ignore[misc]
        with collecting(port) as collector:
            # One that comes back is found again.
            answered(await route(make_request()), completion())
            collector.whole()
            await eventually(lambda: counted(metrics, "sent") == 10)
    (line,) = [record for record in caplog.records if record.name != "triton_router.journal"]
    assert line.getMessage() == "spans are lost"
    assert line.fields["reason"] == "collector" and "UNAVAILABLE" in line.fields["detail"]  # type: ignore[attr-defined]
    assert counted(metrics, "lost") == 20


async def test_the_end_does_not_wait_for_a_collector_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    with collecting(hanging=True) as collector:
        made = Traces(settings(collector.port), metrics)
        answered(await traced(pipeline, made)(make_request()), completion())
        made.close(0.2)
        assert not collector.open.is_set()
        # It was given up, before its own time was over.
        details = [record.fields["detail"] for record in caplog.records if record.getMessage() == "spans are lost"]  # type: ignore[attr-defined]
        assert details and "DEADLINE_EXCEEDED" not in details[0]
        assert (counted(metrics, "sent"), counted(metrics, "lost")) == (0, 10)


async def test_what_a_hanging_collector_holds_up_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "QUEUE", 16)
    monkeypatch.setattr(traces, "BATCH", 4)
    metrics = Metrics()
    with collecting(hanging=True) as collector:
        made = Traces(settings(collector.port), metrics)
        route = traced(pipeline, made)
        for _ in range(5):
            answered(await route(make_request()), completion())
        assert counted(metrics, "lost") == 50 - 16
        collector.open.set()
        made.close(5)
        assert counted(metrics, "sent") == len(collector.spans) == 16


# --- configuration -------------------------------------------------------------------------------------------------


def problems(tracing: str) -> list[Problem]:
    text = f"{CONFIG}global:\n  services:\n    observability:\n      tracing:\n{textwrap.indent(tracing, ' ' * 8)}\n"
    try:
        return loads(text, file="router.yaml").warnings
    except ConfigError as error:
        return error.problems


@pytest.mark.parametrize("kind", ["otlp", "otlp_http", "stdout"])
def test_a_package_that_is_missing_is_a_problem_of_the_configuration(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = f"enabled: true\nexporter: {{type: {kind}}}"
    assert problems(written) == []
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    (problem,) = problems(written)
    line = CONFIG.count("\n") + 5
    assert str(problem) == (
        f"router.yaml:{line}: error: global.services.observability.tracing.enabled: "
        'tracing needs: pip install "triton-router[tracing]"'
    )
    assert problems(written.replace("true", "false")) == []


@pytest.mark.parametrize(("written", "path", "words"), [
    ("sampling: {type: probabilistc}", "sampling.type", "did you mean `probabilistic`"),
    ("exporter: {endpoint: jaeger}", "exporter.endpoint", "is not a `host:port`"),
    ("exporter: {type: kafka}", "exporter.type", "is not one of"),
    ("provider: datadog", "provider", "is not one of"),
    ("sampling: {type: traceidratio, rate: 2}", "sampling.rate", "less than or equal to 1"),
    ("sampling: {rate: 0.1}", "sampling.rate", "has no rate"),
])  # fmt: skip
def test_what_is_wrong_is_said_where_it_was_written(written: str, path: str, words: str) -> None:
    (problem,) = problems(f"enabled: true\n{written}")
    assert problem.path.endswith(f"tracing.{path}")
    assert words in str(problem)


OFF = """
import asyncio, json, sys
from pathlib import Path

from triton_router.config import loads
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.exchange import Forward, Request
from triton_router.telemetry import Metrics
import triton_router.serve, triton_router.worker, triton_router.cli

CONFIG, TRACING = sys.argv[1], sys.argv[2]

async def main():
    bundle, tokenizers = load_bundle(Path("model_repository/bundle.json"))
    loaded = loads(CONFIG + "global: {services: {observability: {tracing: {enabled: " + TRACING + "}}}}")
    generations = Generations(loaded, bundle, tokenizers, Metrics())
    async with generations.routing() as route:
        body = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": "step by step"}]}).encode()
        outcome = await route(Request("POST", "/v1/chat/completions", {}, body))
        assert isinstance(outcome, Forward)
        print(any(name.startswith("opentelemetry") for name in sys.modules), "traceparent" in outcome.headers)
    await generations.encoder.close()

asyncio.run(main())
"""


@pytest.mark.parametrize(("tracing", "output"), [("false", "False False"), ("true", "True True")])
def test_switched_off_it_is_not_even_imported(tracing: str, output: str) -> None:
    command = [sys.executable, "-c", OFF, CONFIG, tracing]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == output, result.stderr

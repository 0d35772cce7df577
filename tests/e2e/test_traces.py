"""A trace from the client through Envoy and the router to the backend, collected over OTLP."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from collector import Collector, Span, collecting
from local_stack import REPOSITORY, wait_for
from whole_system import BIN, Site, running

from triton_router.stack import envoy

pytestmark = pytest.mark.e2e

MATHS = "What is the derivative of x^3 + 2x?"
TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def following(collector: Collector) -> dict[str, Any]:
    """Settings to trace whatever a caller traces."""
    exporter = {"type": "otlp", "endpoint": f"127.0.0.1:{collector.port}", "insecure": True}
    return {"enabled": True, "exporter": exporter, "sampling": {"type": "parentbased_always_off"}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, collector: Collector, triton_port: int) -> Iterator[Site]:
    """The fifteen rules, served by two workers that trace whatever a caller traces."""
    services = {"extproc": {"workers": 2}, "observability": {"tracing": following(collector)}}
    # What is asserted here is not how quick the encoder is on a busy machine.
    changes = {"global": {"services": services, "inference": {"deadline_ms": 10_000}}}
    directory = tmp_path_factory.mktemp("traces")
    yield from running(Site(directory, REPOSITORY / "config" / "aibrix.yaml", changes, grpc=triton_port))


def traced(site: Site, collector: Collector, trace: str, prompt: str = MATHS, **fields: Any) -> httpx.Response:
    """Ask as a caller whose own span is sampled, and wait for the whole trace."""
    headers = {"traceparent": f"00-{trace}-{CALLER}-01", "tracestate": "vendor=1"}
    answer = site.ask(prompt, headers=headers, **fields)
    wait_for(lambda: any(span.name == "route" for span in of(collector, trace)), "a trace")
    return answer


def of(collector: Collector, trace: str) -> list[Span]:
    return [span for span in collector.spans if span.trace == trace]


def test_a_trace_goes_from_the_client_to_the_backend(site: Site, collector: Collector) -> None:
    answer = traced(site, collector, TRACE)
    spans = {span.name: span for span in of(collector, TRACE)}
    root, chat = spans["route"], spans["chat qwen3-8b"]
    assert (root.parent, root.kind) == (CALLER, "SERVER")
    assert (chat.parent, chat.kind) == (root.id, "CLIENT")
    received = answer.json()["demo"]["headers"]
    # What the backend does hangs under the span that waits for it.
    assert received["traceparent"] == f"00-{TRACE}-{chat.id}-01"
    assert received["tracestate"] == "vendor=1"
    assert chat.attributes["gen_ai.response.model"] == answer.json()["model"] == "qwen3-8b"
    assert chat.attributes["gen_ai.usage.output_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert chat.attributes["gen_ai.response.finish_reasons"] == ["stop"]
    assert root.attributes["router.decision"] == answer.headers["x-vsr-selected-decision"]
    assert root.attributes["http.request.header.x-request-id"] == [received["x-request-id"]]
    call, maths = spans["inference.GRPCInferenceService/ModelInfer"], spans["signal domain:math"]
    assert (call.kind, call.parent, maths.parent) == ("CLIENT", spans["signals"].id, spans["signals"].id)
    assert call.attributes["server.port"] == site.grpc
    assert call.attributes["rpc.response.status_code"] == "OK"
    assert maths.attributes["router.signal.matched"] is True
    assert len([name for name in spans if name.startswith("signal domain:")]) == 14
    assert (call.began, call.ended) == (maths.began, maths.ended)


def test_a_stream_is_over_when_its_last_event_has_passed(site: Site, collector: Collector) -> None:
    trace = TRACE[:-1] + "7"
    answer = traced(site, collector, trace, stream=True, stream_options={"include_usage": True})
    assert answer.text.rstrip().endswith("[DONE]")
    chat = next(span for span in of(collector, trace) if span.name.startswith("chat"))
    assert chat.attributes["gen_ai.request.stream"] is True
    assert chat.attributes["gen_ai.usage.output_tokens"] > 0
    assert chat.events == ["first_chunk"] and not chat.failed


def test_a_cached_answer_says_how_alike_the_questions_were(site: Site, collector: Collector) -> None:
    """Every body is another one, so that each time signals are asked; each worker has a cache of its own."""
    traces: dict[str, list[Span]] = {}
    for number in range(20):
        trace = f"{TRACE[:-4]}{number:04x}"
        answer = traced(site, collector, trace, "What are the symptoms of diabetes?", metadata={"n": str(number)})
        traces.setdefault(answer.headers["x-vsr-cache-hit"], of(collector, trace))
        if "exact" in traces:
            break
    hit, miss = ({span.name: span for span in traces[kind]} for kind in ("exact", "miss"))
    assert hit["cache"].attributes == {
        "router.cache.backend": "memory", "router.cache.hit": "exact", "router.cache.similarity": 1.0,
    }  # fmt: skip
    assert hit["route"].attributes["router.response_path"] == "cache"
    assert not any(name.startswith("chat") for name in hit)
    assert miss["cache"].attributes["router.cache.hit"] == "miss"
    assert any(name.startswith("chat") for name in miss)


def test_who_does_not_trace_is_not_traced(site: Site, collector: Collector) -> None:
    answer = site.ask(MATHS)
    received = answer.json()["demo"]["headers"]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", received["traceparent"])
    trace = received["traceparent"].split("-")[1]
    assert of(collector, trace) == []


def test_every_worker_sends_its_own_and_the_last_are_sent_at_the_end(site: Site, collector: Collector) -> None:
    for number in range(30):
        headers = {"traceparent": f"00-{number + 1:032x}-{CALLER}-01"}
        assert site.ask(MATHS, headers=headers).status_code == 200
    site.kill("router", signal.SIGTERM)
    traces = {span.trace for span in collector.spans if span.name == "route"}
    assert {f"{number + 1:032x}" for number in range(30)} <= traces
    workers = {span.resource["service.instance.id"] for span in collector.spans}
    assert len(workers) == 2
    assert b"derivative" not in collector.raw and b"diabetes" not in collector.raw


def test_no_worker_has_said_anything_of_lost_spans(site: Site) -> None:
    log = (Path(site.directory) / "router.log").read_text()
    assert "spans are lost" not in log and "could not be traced" not in log


# --- an Envoy that traces too --------------------------------------------------------------------------------------


class TracingEnvoy(Site):
    """Envoy sends spans of its own to the same collector."""

    collector: int

    def start_envoy(self) -> None:
        path = envoy.write(self.config, self.directory / "envoy", workers=[("127.0.0.1", self.extproc)])
        bootstrap = json.loads(path.read_text())
        listener = bootstrap["static_resources"]["listeners"][0]
        listener["filter_chains"][0]["filters"][0]["typed_config"]["tracing"] = _TRACING
        address = {"socket_address": {"address": "127.0.0.1", "port_value": self.collector}}
        ends = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
        cluster = {"name": "otel", "type": "STATIC", "typed_extension_protocol_options": _HTTP2,
                   "load_assignment": {"cluster_name": "otel", "endpoints": ends}}  # fmt: skip
        bootstrap["static_resources"]["clusters"].append(cluster)
        path.write_text(json.dumps(bootstrap))
        self._spawn("envoy", [str(BIN / "envoy"), "-c", str(path), "-l", "warning", "--disable-hot-restart"])


_TRACING = {
    "spawn_upstream_span": True,
    "provider": {
        "name": "envoy.tracers.opentelemetry",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
            "grpc_service": {"envoy_grpc": {"cluster_name": "otel"}, "timeout": "1s"},
            "service_name": "envoy",
        },
    },
}
_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_HTTP2 = {
    _OPTIONS: {
        "@type": f"type.googleapis.com/{_OPTIONS}",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


@pytest.mark.parametrize("caller", [None, CALLER])
def test_an_envoy_that_traces_and_the_router_make_one_trace(
    tracing_envoy: Site, collector: Collector, caller: str | None
) -> None:
    trace = TRACE[:-2] + "ee"
    answer = tracing_envoy.ask(MATHS, headers={"traceparent": f"00-{trace}-{caller}-01"} if caller else None)
    _, trace_id, above, _ = answer.json()["demo"]["headers"]["traceparent"].split("-")
    assert trace_id == trace or caller is None
    wait_for(lambda: {"ingress", "route"} <= {span.name for span in of(collector, trace_id)}, "both halves")
    wait_for(lambda: len([span for span in of(collector, trace_id) if "egress" in span.name]) == 2, "Envoy's calls")
    spans = {span.id: span for span in of(collector, trace_id)}
    names = {span.name: span for span in spans.values()}
    assert names["ingress"].parent == (caller or "")
    assert "ExternalProcessor" in spans[names["route"].parent].name
    # Envoy's own header is the last one that is set.
    assert spans[above].name.startswith("router model/") and spans[above].parent == names["ingress"].id


@pytest.fixture(scope="module")
def tracing_envoy(
    tmp_path_factory: pytest.TempPathFactory, collector: Collector, triton_port: int
) -> Iterator[TracingEnvoy]:
    changes = {"global": {"services": {"observability": {"tracing": following(collector)}}}}
    directory = tmp_path_factory.mktemp("envoy")
    site = TracingEnvoy(directory, REPOSITORY / "config" / "quickstart.yaml", changes, grpc=triton_port)
    site.collector = collector.port
    yield from running(site)

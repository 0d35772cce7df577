"""A collector of spans on loopback that speaks OTLP, over gRPC and over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from local_stack import wait_for
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wire
from opentelemetry.proto.trace.v1.trace_pb2 import Status


@dataclass(frozen=True)
class Span:
    """One span as it arrived. Ids are in hex, as in ``traceparent``; ``parent`` is empty for the first of a trace."""

    name: str
    trace: str
    id: str
    parent: str
    kind: str
    attributes: dict[str, Any]
    resource: dict[str, Any]
    events: list[str]
    failed: bool
    began: int
    ended: int
    state: str


@dataclass
class Collector:
    port: int = 0
    spans: list[Span] = field(default_factory=list)
    raw: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    open: threading.Event = field(default_factory=threading.Event)

    def take(self, request: Any, headers: dict[str, str]) -> None:
        self.raw += request.SerializeToString()
        self.headers = headers
        for each in request.resource_spans:
            resource = _values(each.resource.attributes)
            self.spans += [_span(span, resource) for scope in each.scope_spans for span in scope.spans]

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def whole(self, count: int = 1, name: str = "route", seconds: float = 20) -> list[Span]:
        """The spans, once ``count`` of that name have come: the root of a trace is its last."""
        wait_for(lambda: len(self.named(name)) >= count, seconds, f"{count} spans `{name}`")
        return self.spans


def _span(span: Wire, resource: dict[str, Any]) -> Span:
    return Span(
        span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        Wire.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"), _values(span.attributes), resource,
        [event.name for event in span.events], span.status.code == Status.STATUS_CODE_ERROR,
        span.start_time_unix_nano, span.end_time_unix_nano, span.trace_state,
    )  # fmt: skip


def _values(attributes: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


@contextmanager
def collecting(port: int = 0, *, hanging: bool = False) -> Iterator[Collector]:
    """A collector over gRPC; one that is ``hanging`` answers nothing until its ``open`` is set."""
    collector = Collector()
    if not hanging:
        collector.open.set()

    class Service(service.TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            collector.open.wait(30)
            collector.take(request, dict(context.invocation_metadata()))
            return pb.ExportTraceServiceResponse()

    server = grpc.server(ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
    service.add_TraceServiceServicer_to_server(Service(), server)
    collector.port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield collector
    finally:
        collector.open.set()
        server.stop(0).wait()


@contextmanager
def collecting_over_http() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.take(pb.ExportTraceServiceRequest.FromString(body), {**dict(self.headers), "path": self.path})
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

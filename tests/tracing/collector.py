"""A collector of spans on loopback that speaks OTLP, over gRPC and over HTTP."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import wire
from local_stack import PATIENCE, wait_for

SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"
KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")


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
    # What each of the next requests is met with: a status and trailers or headers; ``None`` for a status hangs up.
    refusals: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)
    # The message that a request that is taken is answered with.
    answer: bytes = b""
    requests: int = 0
    connections: set[Any] = field(default_factory=set)

    def take(self, request: bytes, headers: dict[str, str]) -> None:
        self.raw += request
        self.headers = headers
        for each in wire.read(request)["resource_spans"]:
            resource = wire.attributes(each["resource"]["attributes"])
            self.spans += [_span(span, resource) for scope in each["scope_spans"] for span in scope["spans"]]

    def refusal(self) -> tuple[Any, dict[str, Any]] | None:
        self.requests += 1
        return self.refusals.pop(0) if self.refusals else None

    def named(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.name == name]

    def whole(self, count: int = 1, name: str = "route") -> list[Span]:
        """The spans, once ``count`` of that name have come: the root of a trace is its last."""
        wait_for(lambda: len(self.named(name)) >= count, f"{count} spans `{name}`")
        return self.spans


def _span(span: dict[str, Any], resource: dict[str, Any]) -> Span:
    return Span(
        span["name"], span["trace"].hex(), span["id"].hex(), span.get("parent", b"").hex(), KINDS[span["kind"]],
        wire.attributes(span["attributes"]), resource, [event["name"] for event in span["events"]],
        span.get("status", {}).get("code") == 2, span["began"], span["ended"], span.get("state", ""),
    )  # fmt: skip


@contextmanager
def collecting(port: int = 0, *, hanging: bool = False, tls: Any = None) -> Iterator[Collector]:
    """A collector over gRPC; one that is ``hanging`` answers nothing until its ``open`` is set.

    ``tls`` is gRPC's server credentials.
    """
    collector = Collector()
    if not hanging:
        collector.open.set()

    def export(request: bytes, context: Any) -> bytes:
        collector.open.wait(PATIENCE)
        refusal = collector.refusal()
        if refusal is not None:
            context.set_trailing_metadata(tuple(refusal[1].items()))
            context.abort(refusal[0], "refused")
        collector.take(request, dict(context.invocation_metadata()))
        return collector.answer

    server = grpc.server(ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
    handler = grpc.unary_unary_rpc_method_handler(export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Export": handler}),))
    address = f"127.0.0.1:{port}"
    collector.port = server.add_secure_port(address, tls) if tls else server.add_insecure_port(address)
    server.start()
    try:
        yield collector
    finally:
        collector.open.set()
        server.stop(0).wait()


@contextmanager
def collecting_over_http(*, hanging: bool = False, tls: ssl.SSLContext | None = None) -> Iterator[Collector]:
    collector = Collector()
    if not hanging:
        collector.open.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.connections.add(self.client_address)
            collector.open.wait(PATIENCE)
            status, headers = collector.refusal() or (200, {})
            if status is None:
                self.close_connection = True
                return
            if status == 200:
                headers = {"content-type": "application/x-protobuf"}
                collector.take(body, {**dict(self.headers), "path": self.path})
            answer = collector.answer if status == 200 else b""
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    collector.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.open.set()
        server.shutdown()
        server.server_close()
        thread.join()

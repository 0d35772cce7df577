"""Spans in OTLP: what the bytes say, what is sent again, and what counts as lost."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import logging
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
import wire
from authority import Authority
from collector import Collector, collecting, collecting_over_http
from environments import executables
from local_stack import REPOSITORY, wait_for
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState
from packaging.requirements import Requirement

from triton_router.config.services import TracingSettings
from triton_router.telemetry import Metrics, traces
from triton_router.telemetry.otlp import encoded
from triton_router.telemetry.traces import Traces

KINDS = {"otlp": collecting, "otlp_http": collecting_over_http}


class Sender:
    """Traces to a collector, with what became of its spans."""

    def __init__(self, kind: str, endpoint: str, *, insecure: bool = True) -> None:
        exporter = {"type": kind, "endpoint": endpoint, "insecure": insecure}
        self.metrics = Metrics()
        self.traces = Traces(TracingSettings.model_validate({"enabled": True, "exporter": exporter}), self.metrics)

    def send(self, count: int = 1, **attributes: Any) -> None:
        trace = self.traces.begin({})
        for _ in range(count):
            trace.span("work", time.perf_counter(), time.perf_counter(), attributes)

    def counted(self) -> tuple[float, float]:
        """How many spans were sent, and lost."""
        read = self.metrics.registry.get_sample_value
        return tuple(read("router_trace_spans_total", {"result": each}) or 0.0 for each in ("sent", "lost"))  # type: ignore[return-value]

    def settled(self, count: int) -> tuple[float, float]:
        """The same, once so many are counted."""
        wait_for(lambda: sum(self.counted()) >= count, f"{count} spans to be counted")
        return self.counted()


@contextmanager
def sending(kind: str, endpoint: str, **more: Any) -> Iterator[Sender]:
    sender = Sender(kind, endpoint, **more)
    try:
        yield sender
    finally:
        sender.traces.close(5)


@contextmanager
def to_a_collector(kind: str) -> Iterator[tuple[Collector, Sender]]:
    with KINDS[kind]() as collector, sending(kind, f"127.0.0.1:{collector.port}") as sender:
        yield collector, sender


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.fields["detail"] for record in caplog.records if record.getMessage() == "spans are lost"]  # type: ignore[attr-defined]


# --- what the bytes say --------------------------------------------------------------------------------------------

TRACE, BEGAN = 0x0AF7651916CD43DD8448EB211C80319C, 1_700_000_000_123_456_789
VALUES = {
    "text": "grüße", "empty": "", "no": False, "yes": True, "zero": 0, "below": -5, "far": -(2**63), "none": 0.0,
    "half": 0.5, "many": ["a", "b"], "nothing": [], "raw": b"\x00\xff", "nested": {"a": [1, {"b": True}], "c": {}},
}  # fmt: skip


def span(name: str, **more: Any) -> ReadableSpan:
    context = SpanContext(TRACE, 2, False, TraceFlags(1), TraceState([("vendor", "1"), ("other", "2")]))
    resource = Resource({"service.name": "edge"}, "https://example.com/resource")
    scope = InstrumentationScope("routing", "1.2", "https://example.com/scope", {"of": "scope"})
    of = {"context": context, "resource": resource, "instrumentation_scope": scope}
    return ReadableSpan(name, **of, start_time=BEGAN, end_time=BEGAN + 1000, **more)  # type: ignore[arg-type]


def every_field() -> ReadableSpan:
    return span(
        "whole",
        parent=SpanContext(TRACE, 1, True, TraceFlags(1)),
        attributes=VALUES,
        events=[Event("first_chunk", {"n": 1}, BEGAN + 1)],
        links=[Link(SpanContext(TRACE + 1, 3, False, TraceFlags(0), TraceState([("v", "w")])), {"why": "retry"})],
        kind=SpanKind.PRODUCER,
        status=Status(StatusCode.ERROR, "broken"),
    )


def test_a_span_is_said_in_full() -> None:
    (of_resource,) = wire.read(encoded([every_field()]))["resource_spans"]
    (of_scope,) = of_resource["scope_spans"]
    (said,) = of_scope["spans"]
    assert wire.attributes(of_resource["resource"]["attributes"]) == {"service.name": "edge"}
    assert of_scope["scope"] == {"name": "routing", "version": "1.2"}
    assert (said["trace"], said["id"], said["parent"]) == (TRACE.to_bytes(16), b"\0" * 7 + b"\2", b"\0" * 7 + b"\1")
    assert (said["state"], said["flags"]) == ("vendor=1,other=2", 0x301)
    assert (said["name"], said["kind"], said["began"], said["ended"]) == ("whole", 4, BEGAN, BEGAN + 1000)
    assert wire.attributes(said["attributes"]) == VALUES
    # Otherwise 0 and 0.0, False and 0 would do for each other.
    assert [type(each) for each in wire.attributes(said["attributes"]).values()] == [type(v) for v in VALUES.values()]
    assert said["events"] == [{"at": BEGAN + 1, "name": "first_chunk", "attributes": said["events"][0]["attributes"]}]
    assert wire.attributes(said["events"][0]["attributes"]) == {"n": 1}
    assert said["status"] == {"message": "broken", "code": 2}


def test_what_a_value_cannot_be_said_as_is_said_in_words() -> None:
    attributes = {"number": 2**64, "half a character": "a\udc80", "moment": datetime.date(2026, 1, 2), "fine": 1}
    (of_resource,) = wire.read(encoded([span("odd", attributes=attributes)]))["resource_spans"]
    (said,) = of_resource["scope_spans"][0]["spans"]
    assert wire.attributes(said["attributes"]) == {
        "number": "18446744073709551616", "half a character": "a?", "moment": "2026-01-02", "fine": 1,
    }  # fmt: skip


PUBLISHED = """
import json, sys
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as service

request = service.ExportTraceServiceRequest.FromString(sys.stdin.buffer.read())
answer = b""
if hasattr(service, "ExportTracePartialSuccess"):
    partial = service.ExportTracePartialSuccess(rejected_spans=2, error_message="too old")
    answer = service.ExportTraceServiceResponse(partial_success=partial).SerializeToString()
again = request.SerializeToString(deterministic=True)
request.DiscardUnknownFields()
read = MessageToDict(request, use_integers_for_enums=True)
print(json.dumps({"read": read, "unknown": len(again) - request.ByteSize(), "answer": answer.hex()}))
"""
NUMBERS = [{"key": "n", "value": {"intValue": "1"}}]
SAID = {"resourceSpans": [{
    "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "edge"}}]},
    "schemaUrl": "https://example.com/resource",
    "scopeSpans": [{
        "scope": {"name": "routing", "version": "1.2",
                  "attributes": [{"key": "of", "value": {"stringValue": "scope"}}]},
        "schemaUrl": "https://example.com/scope",
        "spans": [{
            "traceId": "CvdlGRbNQ92ESOshHIAxnA==", "spanId": "AAAAAAAAAAI=", "parentSpanId": "AAAAAAAAAAE=",
            "traceState": "vendor=1,other=2", "flags": 0x301, "name": "whole", "kind": 4,
            "startTimeUnixNano": str(BEGAN), "endTimeUnixNano": str(BEGAN + 1000),
            "attributes": [
                {"key": "text", "value": {"stringValue": "grüße"}}, {"key": "empty", "value": {"stringValue": ""}},
                {"key": "no", "value": {"boolValue": False}}, {"key": "yes", "value": {"boolValue": True}},
                {"key": "zero", "value": {"intValue": "0"}}, {"key": "below", "value": {"intValue": "-5"}},
                {"key": "far", "value": {"intValue": str(-(2**63))}}, {"key": "none", "value": {"doubleValue": 0.0}},
                {"key": "half", "value": {"doubleValue": 0.5}},
                {"key": "many", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}}},
                {"key": "nothing", "value": {"arrayValue": {}}}, {"key": "raw", "value": {"bytesValue": "AP8="}},
                {"key": "nested", "value": {"kvlistValue": {"values": [
                    {"key": "a", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"kvlistValue": {"values": [
                        {"key": "b", "value": {"boolValue": True}}]}}]}}},
                    {"key": "c", "value": {"kvlistValue": {}}}]}}},
            ],
            "events": [{"timeUnixNano": str(BEGAN + 1), "name": "first_chunk", "attributes": NUMBERS}],
            "links": [{"traceId": "CvdlGRbNQ92ESOshHIAxnQ==", "spanId": "AAAAAAAAAAM=", "traceState": "v=w",
                       "flags": 0x100, "attributes": [{"key": "why", "value": {"stringValue": "retry"}}]}],
            "status": {"message": "broken", "code": 2},
        }],
    }],
}]}  # fmt: skip


def published(python: str | Path) -> dict[str, Any]:
    """What the project's own messages, as ``python`` has them, read."""
    done = subprocess.run([python, "-c", PUBLISHED], input=encoded([every_field()]), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def test_the_projects_first_messages_read_it_too() -> None:
    """Those that come with `xds-protos` are of a time before flags, and before scopes were called so."""
    names = {"instrumentationLibrarySpans": "scopeSpans", "instrumentationLibrary": "scope"}
    text = json.dumps(published(sys.executable)["read"])
    for old, new in names.items():
        text = text.replace(f'"{old}"', f'"{new}"')

    def without(said: Any) -> Any:
        if isinstance(said, list):
            return [without(each) for each in said]
        if not isinstance(said, dict):
            return said
        kept = {key: without(value) for key, value in said.items() if key != "flags"}
        return {**kept, "scope": {k: kept["scope"][k] for k in ("name", "version")}} if "scope" in kept else kept

    assert without(json.loads(text)) == without(SAID)


@pytest.mark.deploy
def test_the_projects_own_messages_read_it() -> None:
    found = published(executables("otlp") / "python")
    assert found["read"] == SAID
    assert found["unknown"] == 0
    # And the other way.
    with to_a_collector("otlp") as (collector, sender):
        collector.answer = bytes.fromhex(found["answer"])
        sender.send(3)
        assert sender.settled(3) == (1, 2)


# --- what is sent again --------------------------------------------------------------------------------------------

Code = grpc.StatusCode


def retry_info(seconds: int, nanos: int = 0) -> dict[str, bytes]:
    """Trailers with a google.rpc.Status (3: details) of an Any (1: type, 2: value) with a RetryInfo (1: Duration)."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    assert nanos < 1 << 28
    parts = [nanos & 0x7F | 0x80, nanos >> 7 & 0x7F | 0x80, nanos >> 14 & 0x7F | 0x80, nanos >> 21]
    info = field(1, bytes([1 << 3, seconds, 2 << 3, *parts]))
    detail = field(1, b"type.googleapis.com/google.rpc.RetryInfo") + field(2, info)
    return {"grpc-status-details-bin": bytes([1 << 3, 8]) + field(3, detail)}


@pytest.mark.parametrize(("kind", "refusals", "requests"), [
    ("otlp", [(Code.UNAVAILABLE, {}), (Code.ABORTED, {})], 3),
    ("otlp", [(Code.CANCELLED, {}), (Code.DATA_LOSS, {}), (Code.OUT_OF_RANGE, {})], 4),
    ("otlp", [(Code.RESOURCE_EXHAUSTED, retry_info(0, 1_000_000))], 2),
    ("otlp_http", [(503, {}), (429, {})], 3),
    ("otlp_http", [(502, {"retry-after": "0"}), (504, {"retry-after": "no number"})], 3),
    ("otlp_http", [(None, {})], 2),
])  # fmt: skip
def test_what_may_pass_is_tried_again(kind: str, refusals: list[Any], requests: int) -> None:
    with to_a_collector(kind) as (collector, sender):
        collector.refusals = list(refusals)
        sender.send(2)
        assert sender.settled(2) == (2, 0)
        assert collector.requests == requests
        assert len(collector.spans) == 2


@pytest.mark.parametrize(("kind", "refusal", "why"), [
    ("otlp", (Code.INVALID_ARGUMENT, {}), "INVALID_ARGUMENT: refused"),
    ("otlp", (Code.UNAUTHENTICATED, {}), "UNAUTHENTICATED: refused"),
    ("otlp", (Code.RESOURCE_EXHAUSTED, {}), "RESOURCE_EXHAUSTED: refused"),
    ("otlp", (Code.RESOURCE_EXHAUSTED, {"grpc-status-details-bin": b"\xff"}), "RESOURCE_EXHAUSTED: refused"),
    ("otlp_http", (400, {}), "HTTP 400 Bad Request"), ("otlp_http", (500, {}), "HTTP 500 Internal Server Error"),
    ("otlp_http", (302, {"location": "/elsewhere"}), "HTTP 302 Found"),
])  # fmt: skip
def test_what_will_not_pass_is_lost_at_once(
    kind: str, refusal: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with to_a_collector(kind) as (collector, sender):
        collector.refusals = [refusal]
        sender.send(2)
        assert sender.settled(2) == (0, 2)
        assert collector.requests == 1
        # What comes next is another matter.
        sender.send()
        assert sender.settled(3) == (1, 2)
    assert complaints(caplog) == [why]


MUCH_LATER = "Fri, 01 Jan 2100 00:00:00 GMT"


@pytest.mark.parametrize(("kind", "refusal"), [
    ("otlp", (Code.UNAVAILABLE, retry_info(120))), ("otlp", (Code.RESOURCE_EXHAUSTED, retry_info(120))),
    ("otlp_http", (429, {"retry-after": "120"})), ("otlp_http", (503, {"retry-after": MUCH_LATER})),
])  # fmt: skip
def test_a_collector_that_asks_for_a_pause_is_left_alone(
    kind: str, refusal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "SEND_WITHIN", 0.3)
    with to_a_collector(kind) as (collector, sender):
        collector.refusals = [refusal]
        sender.send()
        assert sender.settled(1) == (0, 1)
        sender.send()
        assert sender.settled(2) == (0, 2)
        assert collector.requests == 1


@pytest.mark.parametrize("kind", KINDS)
def test_trying_again_has_its_time(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(traces, "SEND_WITHIN", 3.0)
    busy = {"otlp": (Code.UNAVAILABLE, {}), "otlp_http": (503, {})}[kind]
    with to_a_collector(kind) as (collector, sender):
        collector.refusals = [busy] * 50
        sender.send()
        assert sender.settled(1) == (0, 1)
        # At once and behind pauses of 0.25, 0.5, 1 s and so on, 0.8 to 1.2 times that; a busy machine may do fewer.
        assert 1 <= collector.requests <= 5
    assert re.search("UNAVAILABLE|503", complaints(caplog)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("answer", "counted"), [
    (b"\x0a\x09\x08\x02\x12\x05dates", (3, 2)), (b"\x0a\x07\x12\x05dates", (5, 0)), (b"\x0a\x02\x08\x63", (0, 5)),
    (b"no message", (5, 0)), (b"", (5, 0)),
], ids=["two refused", "only a word", "more than there were", "nonsense", "nothing"])  # fmt: skip
def test_what_a_collector_refuses_of_a_batch_is_lost_and_not_sent_again(
    kind: str, answer: bytes, counted: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    with to_a_collector(kind) as (collector, sender):
        collector.answer = answer
        sender.send(5)
        assert sender.settled(5) == counted
        assert collector.requests == 1
    assert complaints(caplog) == ([] if counted == (5, 0) else ["dates" if counted == (3, 2) else ""])


# --- connections ---------------------------------------------------------------------------------------------------


def test_over_http_the_connection_is_kept() -> None:
    with to_a_collector("otlp_http") as (collector, sender):
        for number in range(1, 4):
            sender.send()
            assert sender.settled(number) == (number, 0)
        assert (collector.requests, len(collector.connections)) == (3, 1)


def test_the_end_does_not_wait_for_one_that_hangs_over_http(caplog: pytest.LogCaptureFixture) -> None:
    with collecting_over_http(hanging=True) as collector:
        sender = Sender("otlp_http", f"127.0.0.1:{collector.port}")
        sender.send(4)
        wait_for(lambda: bool(collector.connections), "a request")
        sender.traces.close(0.2)
        assert not collector.open.is_set()
        assert sender.counted() == (0, 4)
    assert "timed out" not in complaints(caplog)[0]


def tls(kind: str, certificate: Path, key: Path, callers: Path) -> Any:
    """A collector's own side, which wants to know its callers too."""
    if kind == "otlp":
        pair = key.read_bytes(), certificate.read_bytes()
        return grpc.ssl_server_credentials([pair], callers.read_bytes(), require_client_auth=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=callers)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize("kind", KINDS)
def test_over_tls_by_certificates_of_ones_own(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    authority, stranger = Authority(tmp_path, "authority"), Authority(tmp_path, "stranger")
    own, mine = authority.sign("collector", "localhost"), authority.sign("sender", "sender")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", str(mine[0]))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CLIENT_KEY", str(mine[1]))
    monkeypatch.setattr(traces, "SEND_WITHIN", 3.0)
    with KINDS[kind](tls=tls(kind, *own, authority.file)) as collector:  # type: ignore[operator]
        endpoint = f"localhost:{collector.port}"
        for trusted, counted in ((authority.file, (1, 0)), (stranger.file, (0, 1)), (tmp_path / "missing", (0, 1))):
            monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(trusted))
            with sending(kind, endpoint, insecure=False) as sender:
                sender.send()
                assert sender.settled(1) == counted
        assert len(collector.spans) == 1
    assert "No such file" in complaints(caplog)[-1]


@contextmanager
def proxy(to: int) -> Iterator[tuple[int, list[bytes]]]:
    """A proxy that connects whoever asks to the port ``to``; what it was asked comes with its port."""
    asked: list[bytes] = []
    listening = socket.create_server(("127.0.0.1", 0))

    def pour(source: socket.socket, into: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                into.sendall(data)
        except OSError:
            pass
        finally:
            into.close()

    def serve() -> None:
        client, _ = listening.accept()
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        asked.append(head)
        behind = socket.create_connection(("127.0.0.1", to))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=pour, args=(behind, client), daemon=True).start()
        pour(client, behind)

    threading.Thread(target=serve, daemon=True).start()
    with listening:
        yield listening.getsockname()[1], asked


def test_https_goes_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path, "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.sign("collector", "collector.invalid"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", str(authority.file))
    with collecting_over_http(tls=context) as collector, proxy(collector.port) as (port, asked):
        monkeypatch.setenv("https_proxy", f"http://user:p%40ss@127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "elsewhere.invalid")
        with sending("otlp_http", "collector.invalid:4318", insecure=False) as sender:
            sender.send()
            assert sender.settled(1) == (1, 0)
        assert asked[0].startswith(b"CONNECT collector.invalid:4318 HTTP/1.")
        assert b"\r\nproxy-authorization: Basic dXNlcjpwQHNz\r\n" in asked[0]
        # The collector has no business with it.
        assert "proxy-authorization" not in collector.headers
        assert collector.headers["path"] == "/v1/traces"


@pytest.mark.parametrize("bypassed", [False, True])
def test_http_goes_through_a_proxy_too(bypassed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting_over_http() as collector:
        host = "127.0.0.1" if bypassed else "collector.invalid"
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{1 if bypassed else collector.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1" if bypassed else "")
        with sending("otlp_http", f"{host}:{collector.port}") as sender:
            sender.send()
            assert sender.settled(1) == (1, 0)
        whole = f"http://collector.invalid:{collector.port}/v1/traces"
        assert collector.headers["path"] == ("/v1/traces" if bypassed else whole)
        assert collector.headers["Host"] == f"{host}:{collector.port}"


# --- packages ------------------------------------------------------------------------------------------------------


def needed(first: list[str]) -> set[str]:
    """All distributions that are needed, through and through; what is not installed here needs nothing more."""
    found: set[str] = set()
    queue = [(each, "") for each in first]
    while queue:
        requirement, extra = queue.pop()
        parsed = Requirement(requirement)
        name = re.sub("[-_.]+", "-", parsed.name).lower()
        if name in found or (parsed.marker is not None and not parsed.marker.evaluate({"extra": extra})):
            continue
        found.add(name)
        try:
            more = importlib.metadata.requires(parsed.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        queue += [(each, option) for each in more for option in parsed.extras or {""}]
    return found


def test_no_package_that_is_needed_overwrites_files_of_xds_protos() -> None:
    """In what order packages are unpacked is nobody's promise."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = needed([*project["dependencies"], *(each for extra in extras.values() for each in extra)])
    assert {"xds-protos", "opentelemetry-sdk", "protobuf"} <= names

    def files(name: str) -> set[str]:
        try:
            listed = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            return set()
        # Some have an empty `__init__.py` in common.
        return {str(each) for each in listed if each.suffix in (".py", ".pyi", ".so") and each.name != "__init__.py"}

    theirs = files("xds-protos")
    assert theirs
    assert {name: sorted(files(name) & theirs)[:3] for name in names - {"xds-protos"} if files(name) & theirs} == {}
    assert not names & {"opentelemetry-proto", "googleapis-common-protos"}


def test_nothing_is_complained_of_where_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), to_a_collector("otlp_http") as (_, sender):
        sender.send(600)
        assert sender.settled(600) == (600, 0)
    assert caplog.records == []

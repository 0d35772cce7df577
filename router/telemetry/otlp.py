"""Spans in OpenTelemetry's own protocol, OTLP, over gRPC and over HTTP.

The project's exporters are not used: `opentelemetry-proto` and `googleapis-common-protos`, which they need, install
files at the very paths of `xds-protos`, which the router needs, and whichever is unpacked last breaks the other.

What is said and when it is said again: https://opentelemetry.io/docs/specs/otlp/
"""

from __future__ import annotations

import base64
import os
import random
import re
import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from itertools import count
from pathlib import Path
from time import monotonic, time
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, StatusCode

from triton_router import __version__

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
# Seconds before the second attempt, doubled for each that follows; and of a pause that a collector asks for, at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 60.0
LONGEST_ANSWER = 1 << 16
_AGENT = f"triton-router/{__version__}"
_MEDIA_TYPE = "application/x-protobuf"

# Tables of https://opentelemetry.io/docs/specs/otlp/: "failures" and "retryable response codes". RESOURCE_EXHAUSTED is
# one of them where the collector says when.
_AGAIN = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}
_BROKEN = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_AGAIN_HTTP = {429, 502, 503, 504}

# https://github.com/open-telemetry/opentelemetry-proto: v1 of trace, common, resource and the collector's service.
# Then google.rpc's Status and RetryInfo with what is in them. `*` marks a field that repeats, `?` one of the message's
# alternatives. Names do not travel, nor does whether a number is one of an enumeration.
_MESSAGES = {
    "ExportTraceServiceRequest": "1 resource_spans *ResourceSpans",
    "ExportTraceServiceResponse": "1 partial_success ExportTracePartialSuccess",
    "ExportTracePartialSuccess": "1 rejected_spans int64, 2 error_message string",
    "ResourceSpans": "1 resource Resource, 2 scope_spans *ScopeSpans, 3 schema_url string",
    "ScopeSpans": "1 scope InstrumentationScope, 2 spans *Span, 3 schema_url string",
    "Span": """
        1 trace_id bytes, 2 span_id bytes, 3 trace_state string, 4 parent_span_id bytes, 5 name string, 6 kind int32,
        7 start_time_unix_nano fixed64, 8 end_time_unix_nano fixed64, 9 attributes *KeyValue,
        10 dropped_attributes_count uint32, 11 events *Event, 12 dropped_events_count uint32, 13 links *Link,
        14 dropped_links_count uint32, 15 status SpanStatus, 16 flags fixed32""",
    "Event": "1 time_unix_nano fixed64, 2 name string, 3 attributes *KeyValue, 4 dropped_attributes_count uint32",
    "Link": """
        1 trace_id bytes, 2 span_id bytes, 3 trace_state string, 4 attributes *KeyValue,
        5 dropped_attributes_count uint32, 6 flags fixed32""",
    "SpanStatus": "2 message string, 3 code int32",
    "Resource": "1 attributes *KeyValue, 2 dropped_attributes_count uint32",
    "InstrumentationScope": """
        1 name string, 2 version string, 3 attributes *KeyValue, 4 dropped_attributes_count uint32""",
    "KeyValue": "1 key string, 2 value AnyValue",
    "AnyValue": """
        1 string_value ?string, 2 bool_value ?bool, 3 int_value ?int64, 4 double_value ?double,
        5 array_value ?ArrayValue, 6 kvlist_value ?KeyValueList, 7 bytes_value ?bytes""",
    "ArrayValue": "1 values *AnyValue",
    "KeyValueList": "1 values *KeyValue",
    "Status": "1 code int32, 2 message string, 3 details *Any",
    "Any": "1 type_url string, 2 value bytes",
    "RetryInfo": "1 retry_delay Duration",
    "Duration": "1 seconds int64, 2 nanos int32",
}
_FIELD = re.compile(r"(?P<number>\d+) (?P<name>\w+) (?P<mark>[*?]?)(?P<type>\w+)")
_PACKAGE = "router.otlp.v1"


def _described() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="router/otlp/v1.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if "?" in fields:
            message.oneof_decl.add(name="value")
        for each in _FIELD.finditer(fields):
            field = message.field.add(name=each["name"], number=int(each["number"]))
            field.label = field.LABEL_REPEATED if each["mark"] == "*" else field.LABEL_OPTIONAL
            if each["mark"] == "?":
                field.oneof_index = 0
            if each["type"] in _MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{each['type']}"
            else:
                field.type = field.Type.Value(f"TYPE_{each['type'].upper()}")
    return file


# A pool of its own: nothing here can be in the way of another package's messages.
_pool = descriptor_pool.DescriptorPool()
_pool.AddSerializedFile(_described().SerializeToString())


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))


_Request, _Response = _message("ExportTraceServiceRequest"), _message("ExportTraceServiceResponse")
_Status, _RetryInfo = _message("Status"), _message("RetryInfo")


# --- spans as messages ---------------------------------------------------------------------------------------------


def encoded(spans: Sequence[ReadableSpan]) -> bytes:
    """``spans`` as an `ExportTraceServiceRequest`."""
    request = _Request()
    scopes: dict[tuple[int, int], Any] = {}
    for span in spans:
        # By identity: a resource takes its time to say what it is equal to.
        where = id(span.resource), id(span.instrumentation_scope)
        if where not in scopes:
            scopes[where] = _scope(request, span)
        _write(scopes[where].spans.add(), span)
    return bytes(request.SerializeToString())


def _scope(request: Any, span: ReadableSpan) -> Any:
    """Where spans with the resource and the scope of ``span`` go."""
    resource, scope = span.resource, span.instrumentation_scope
    below = request.resource_spans.add(schema_url=resource.schema_url)
    _put(below.resource.attributes, resource.attributes)
    into = below.scope_spans.add()
    if scope is not None:
        into.schema_url = scope.schema_url or ""
        into.scope.name, into.scope.version = scope.name, scope.version or ""
        _put(into.scope.attributes, scope.attributes)
    return into


def _write(into: Any, span: ReadableSpan) -> None:
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    into.trace_id, into.span_id = context.trace_id.to_bytes(16), context.span_id.to_bytes(8)
    into.trace_state, into.flags = context.trace_state.to_header(), _flags(context, parent)
    if parent is not None:
        into.parent_span_id = parent.span_id.to_bytes(8)
    into.name = span.name
    # The API counts from zero, where the protocol says "unspecified".
    into.kind = span.kind.value + 1
    into.start_time_unix_nano, into.end_time_unix_nano = span.start_time or 0, span.end_time or 0
    _put(into.attributes, span.attributes)
    for event in span.events:
        added = into.events.add(time_unix_nano=event.timestamp, name=event.name)
        added.dropped_attributes_count = event.dropped_attributes
        _put(added.attributes, event.attributes)
    for link in span.links:
        added, context = into.links.add(), link.context
        added.trace_id, added.span_id = context.trace_id.to_bytes(16), context.span_id.to_bytes(8)
        added.trace_state, added.flags = context.trace_state.to_header(), _flags(context, context)
        added.dropped_attributes_count = link.dropped_attributes
        _put(added.attributes, link.attributes)
    if span.status.status_code is not StatusCode.UNSET:
        into.status.code, into.status.message = span.status.status_code.value, span.status.description or ""
    into.dropped_attributes_count = span.dropped_attributes
    into.dropped_events_count, into.dropped_links_count = span.dropped_events, span.dropped_links


def _flags(context: SpanContext, parent: SpanContext | None) -> int:
    """The trace's flags; above them that it is known whether ``parent`` is another process's, and whether it is."""
    return context.trace_flags | 0x100 | (0x200 if parent is not None and parent.is_remote else 0)


def _put(pairs: Any, attributes: Mapping[str, Any] | None) -> None:
    for key, value in (attributes or {}).items():
        into = pairs.add(key=key).value
        try:
            _set(into, value)
        except ValueError:
            # A number beyond 64 bits, a text with half a character: one of them would take its whole batch along.
            into.string_value = str(value).encode("utf-8", "replace").decode()


def _set(into: Any, value: Any) -> None:
    match value:
        case str():
            into.string_value = value
        case bool():
            into.bool_value = value
        case int():
            into.int_value = value
        case float():
            into.double_value = value
        case bytes():
            into.bytes_value = value
        case Mapping():
            into.kvlist_value.SetInParent()
            _put(into.kvlist_value.values, value)
        case Sequence():
            into.array_value.SetInParent()
            for each in value:
                _set(into.array_value.values.add(), each)
        case None:
            pass
        case _:
            into.string_value = str(value)


# --- sending them --------------------------------------------------------------------------------------------------


class Lost(Exception):
    """Of a batch, ``spans`` were not taken. The message says why."""

    def __init__(self, spans: int, why: str) -> None:
        super().__init__(why)
        self.spans = spans


class Failed(Exception):
    """Of an attempt. ``again``: another makes sense; ``after``: in so many seconds at the earliest."""

    def __init__(self, why: str, *, again: bool, after: float = 0.0) -> None:
        super().__init__(why)
        self.again, self.after = again, after


class Transport(Protocol):
    def send(self, request: bytes, seconds: float) -> bytes:
        """Make one attempt, and return the collector's answer. Raises :class:`Failed`."""

    def close(self) -> None:
        """From any thread: end the attempt in progress."""


class Exporter(SpanExporter):
    """Sends batches through ``transport``, each within so many ``seconds`` with all its attempts."""

    def __init__(self, transport: Transport, seconds: float) -> None:
        self._transport, self._within = transport, seconds
        self._quiet_until = 0.0
        self._ending = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send ``spans``. Raises :class:`Lost` where the collector took fewer."""
        request = encoded(spans)
        ends = monotonic() + self._within
        until, why = self._quiet_until, "it asked for a pause"
        for attempt in count():
            pause = min(until, ends) - monotonic()
            if self._ending.wait(max(0.0, pause)) or monotonic() >= ends:
                raise Lost(len(spans), why)
            try:
                answer = self._transport.send(request, ends - monotonic())
                break
            except Failed as failed:
                why = str(failed)
                if not failed.again:
                    raise Lost(len(spans), why) from failed
                if failed.after:
                    self._quiet_until = monotonic() + min(failed.after, LONGEST_PAUSE)
                backoff = FIRST_PAUSE * 2**attempt * random.uniform(0.8, 1.2)
                until = monotonic() + max(failed.after, backoff)
        refused, why = _refused(answer)
        if refused > 0:
            raise Lost(min(refused, len(spans)), why)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """From any thread: give up what is in progress and all that comes."""
        self._ending.set()
        self._transport.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


def _refused(answer: bytes) -> tuple[int, str]:
    """How many spans a collector did not take that took the request, and why."""
    try:
        partial = _Response.FromString(answer).partial_success
    except DecodeError:
        # It is not for us to call lost what was answered by a 200.
        return 0, ""
    return partial.rejected_spans, partial.error_message


class OverGrpc:
    """To ``endpoint``, `host:port`; without ``secure`` in plain text."""

    def __init__(self, endpoint: str, headers: Mapping[str, str], *, secure: bool) -> None:
        self._endpoint, self._secure, self._headers = endpoint, secure, tuple(headers.items())
        self._channel: grpc.Channel | None = None

    def send(self, request: bytes, seconds: float) -> bytes:
        try:
            self._channel = self._channel or self._opened()
            export = self._channel.unary_unary(METHOD)
            return bytes(export(request, timeout=seconds, metadata=self._headers))
        except OSError as error:
            raise Failed(f"certificates: {error}", again=False) from None
        except grpc.RpcError as error:
            after = _asked_for(error.trailing_metadata())
            exhausted = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            again = error.code() in _AGAIN or (exhausted and after is not None)
            if after is None and error.code() in _BROKEN:
                # Of itself a channel waits longer and longer, and for a collector that is gone a quarter of an hour.
                self.close()
                self._channel = None
            raise Failed(f"{error.code().name}: {error.details()}", again=again, after=after or 0.0) from None

    def close(self) -> None:
        if (channel := self._channel) is not None:
            channel.close()

    def _opened(self) -> grpc.Channel:
        options = (("grpc.primary_user_agent", _AGENT),)
        if self._secure:
            return grpc.secure_channel(self._endpoint, _credentials(), options)
        return grpc.insecure_channel(self._endpoint, options)


def _asked_for(trailers: Any) -> float | None:
    """The seconds of the `RetryInfo` among a status's details."""
    with suppress(DecodeError):
        for detail in _Status.FromString(dict(trailers or ()).get("grpc-status-details-bin", b"")).details:
            if detail.type_url.endswith("/google.rpc.RetryInfo"):
                delay = _RetryInfo.FromString(detail.value).retry_delay
                return float(max(0.0, delay.seconds + delay.nanos / 1e9))
    return None


class OverHttp:
    """By POST to ``url``, over a connection that is kept, through a proxy where the environment names one.

    The seconds of an attempt bound each wait for the collector: to connect, to send, to read.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url, self._headers = url, {"user-agent": _AGENT, **headers, "content-type": _MEDIA_TYPE}
        self._way: tuple[HTTPConnection, str, dict[str, str]] | None = None

    def send(self, request: bytes, seconds: float) -> bytes:
        try:
            connection, target, more = self._way = self._way or _way_to(self._url)
        except OSError as error:
            raise Failed(f"certificates: {error}", again=False) from None
        connection.timeout = seconds
        try:
            if connection.sock is not None:
                connection.sock.settimeout(seconds)
            connection.request("POST", target, request, {**self._headers, **more})
            response = connection.getresponse()
            answer = response.read(LONGEST_ANSWER)
        except (OSError, HTTPException) as error:
            connection.close()
            raise Failed(f"{type(error).__name__}: {error}", again=True) from None
        if not response.isclosed():
            # More than an answer has to say.
            connection.close()
        if response.status // 100 != 2:
            why = f"HTTP {response.status} {response.reason}"
            raise Failed(why, again=response.status in _AGAIN_HTTP, after=_retry_after(response))
        return answer if response.headers.get_content_type() == _MEDIA_TYPE else b""

    def close(self) -> None:
        # `close` alone would leave a thread that reads where it is.
        if self._way is not None and (waiting := self._way[0].sock) is not None:
            with suppress(OSError):
                waiting.shutdown(socket.SHUT_RDWR)


def _retry_after(response: HTTPResponse) -> float:
    """Seconds: the header has them, or a date."""
    said = response.getheader("retry-after", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time())
    except (ValueError, OverflowError):
        return 0.0


def _way_to(url: str) -> tuple[HTTPConnection, str, dict[str, str]]:
    """A connection, what to ask for over it, and headers that its other end wants."""
    parts = urlsplit(url)
    host, port, secure = parts.hostname or "", parts.port, parts.scheme == "https"
    said = "" if proxy_bypass(host) else getproxies().get(parts.scheme, "")
    proxy = urlsplit(said if "//" in said else f"//{said}")
    if not proxy.hostname:
        connection = HTTPSConnection(host, port, context=_context()) if secure else HTTPConnection(host, port)
        return connection, parts.path, {}
    allowed = {}
    if proxy.username is not None:
        login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
        allowed["proxy-authorization"] = f"Basic {base64.b64encode(login).decode()}"
    if not secure:
        return HTTPConnection(proxy.hostname, proxy.port), url, allowed
    tunnel = HTTPSConnection(proxy.hostname, proxy.port, context=_context())
    tunnel.set_tunnel(host, port, allowed)
    return tunnel, parts.path, {}


# --- certificates: https://opentelemetry.io/docs/specs/otel/protocol/exporter/ --------------------------------------


def _file(name: str) -> str | None:
    return os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")


def _credentials() -> grpc.ChannelCredentials:
    files = [_file(name) for name in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE")]
    return grpc.ssl_channel_credentials(*(Path(each).read_bytes() if each else None for each in files))


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=_file("CERTIFICATE"))
    certificate = _file("CLIENT_CERTIFICATE")
    if certificate is not None:
        context.load_cert_chain(certificate, _file("CLIENT_KEY"))
    return context

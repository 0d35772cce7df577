"""Sending spans by OpenTelemetry, which only this module and `otlp_http` import, and only where tracing is on.

A span is reported once it is over, with the times that it had: an exchange costs nothing extra while it is being
routed, and a span that is not sampled is never built.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import Any, TextIO

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from triton_router import __version__
from triton_router.config.observability import TraceExporter, TraceResource, TracingSettings
from triton_router.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

# Spans that wait to be sent; a collector that is down costs a few megabytes and no more.
QUEUE = 8192
BATCH = 512
# Seconds between batches, for one batch with all its attempts, and between two log lines about lost spans.
PAUSE, SEND_WITHIN, LOG_EVERY = 1.0, 5.0, 60.0
# Seconds for attempts that are given up at the end.
GIVE_UP_WITHIN = 1.0
LONGEST_TEXT, LONGEST_DETAIL = 256, 300

# https://www.w3.org/TR/trace-context/: version, trace, span, flags; versions to come may say more after them.
_TRACEPARENT = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
_LOW_HALF = (1 << 64) - 1
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)

SERVER, CLIENT, INTERNAL = SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL
Value = str | bool | int | float | Sequence[str] | None


class Traces:
    """Makes traces, and sends their spans in batches from a thread. Use it in one thread, and :meth:`close` it.

    ``out`` is where the exporter ``stdout`` writes.
    """

    def __init__(self, settings: TracingSettings, metrics: Metrics, out: TextIO = sys.stdout) -> None:
        self._exporter = _Counted(_exporter(settings.exporter, out), metrics, settings.exporter.endpoint)
        self._processor = BatchSpanProcessor(self._exporter, QUEUE, PAUSE * 1000, BATCH)
        self._follows, self._bound = settings.sampling.follows_parent, round(settings.sampling.share * (_LOW_HALF + 1))
        self.ids = RandomIdGenerator()
        self.resource = Resource.create(_resource_attributes(settings.resource))
        self.scope = InstrumentationScope("triton-router", __version__)
        # No lock: this only grows, in the caller's thread, and `handled` of the exporter only grows in its thread.
        self._accepted = 0

    def begin(self, headers: Mapping[str, str]) -> Trace:
        """A trace for a request with these ``headers`` (lower case): the caller's trace, or a new one."""
        return Trace(self, headers)

    def samples(self, trace: int, followed: bool | None) -> bool:
        """Whether ``trace`` is sampled; ``followed`` is the caller's own decision (``None``: there is no caller)."""
        if self._follows and followed is not None:
            return followed
        # Like other samplers of ratios: the low half of the id against a bound, so that all agree on a trace.
        return trace & _LOW_HALF < self._bound

    def send(self, span: ReadableSpan) -> None:
        """Queue ``span``; where the queue is full it is lost."""
        if self._accepted - self._exporter.handled >= QUEUE:
            self._exporter.lost(1, "queue")
            return
        self._accepted += 1
        self._processor.on_end(span)

    def close(self, seconds: float) -> None:
        """Send the queued spans, for ``seconds`` at most, and stop."""
        ending = Thread(target=self._processor.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(seconds)
        if ending.is_alive():
            # Ends the pauses between attempts, and over gRPC an attempt in progress.
            self._exporter.shutdown()
            ending.join(GIVE_UP_WITHIN)
        if ending.is_alive():
            self._exporter.give_up(self._accepted - self._exporter.handled)


class Trace:
    """The spans of one exchange, of which ``root`` is the first; unless ``sampled``, none are sent.

    ``joined`` means that the trace is the caller's. Spans are identified by their ids; times are those of
    :func:`time.perf_counter`.
    """

    __slots__ = ("_caller", "_headers", "_id", "_offset", "_traces", "joined", "root", "sampled")

    def __init__(self, traces: Traces, headers: Mapping[str, str]) -> None:
        self._traces, self._headers = traces, headers
        parent = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        self.joined = parent is not None
        self._id = int(parent[1], 16) if parent else traces.ids.generate_trace_id()
        self._caller = int(parent[2], 16) if parent else None
        self.sampled = traces.samples(self._id, bool(int(parent[3], 16) & 1) if parent else None)
        self._offset = time.time_ns() - int(perf_counter() * 1e9)
        self.root = self.new()

    def new(self) -> int:
        """The id for a span that has children before it is over."""
        return self._traces.ids.generate_span_id()

    def traceparent(self, span: int) -> str:
        """The header that makes the next server's spans children of ``span``."""
        return f"00-{self._id:032x}-{span:016x}-{int(self.sampled):02x}"

    def span(
        self,
        name: str,
        began: float,
        ended: float,
        attributes: Mapping[str, Value],
        *,
        below: int | None = None,
        identity: int | None = None,
        kind: SpanKind = INTERNAL,
        events: Sequence[tuple[str, float]] = (),
        error: str | None = None,
    ) -> None:
        """Send a span that is over. Attributes that are ``None`` are left out; events are names with their times.

        ``identity`` is the span's id, if it has one already. Its parent is ``below``, or else the root. ``error``
        becomes the attribute `error.type`.
        """
        identity = identity or self.new()
        parent = self._caller if identity == self.root else below or self.root
        sendable = {key: _sendable(value) for key, value in attributes.items() if value is not None}
        if error is not None:
            sendable["error.type"] = error
        # `Tracer.start_span` costs ten times as much: locks, limits and callbacks for a span that could still change.
        span = ReadableSpan(
            name=_sendable(name),
            context=self._context(identity),
            parent=self._context(parent, remote=parent == self._caller) if parent is not None else None,
            resource=self._traces.resource,
            attributes=sendable,
            events=[Event(event, timestamp=self._wall(at)) for event, at in events],
            kind=kind,
            status=Status(StatusCode.UNSET if error is None else StatusCode.ERROR),
            start_time=self._wall(began),
            end_time=self._wall(ended),
            instrumentation_scope=self._traces.scope,
        )
        self._traces.send(span)

    def _context(self, span: int, *, remote: bool = False) -> SpanContext:
        state = self._headers.get("tracestate") if self.joined else None
        return SpanContext(self._id, span, remote, _SAMPLED, TraceState.from_header([state]) if state else None)

    def _wall(self, moment: float) -> int:
        return self._offset + int(moment * 1e9)


class _Counted(SpanExporter):
    """An exporter that counts sent and lost spans, and logs at most one line a minute.

    ``make`` builds the exporter when the first batch comes, and again for the next one if that raises.
    """

    def __init__(self, make: Callable[[], SpanExporter], metrics: Metrics, endpoint: str) -> None:
        self._make, self._metrics, self._endpoint = make, metrics, endpoint
        self._inner: SpanExporter | None = None
        self._sdk_log = _SdkLog()
        self._logged = -LOG_EVERY
        self._unlogged = 0
        self._over = False
        self.handled = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            self._inner = self._inner or self._make()
            result = self._inner.export(spans)
        except OSError as error:
            self._sdk_log.texts.append(f"{type(error).__name__}: {error}")
        except Exception as error:
            # Its text may quote the span.
            self._sdk_log.texts.append(type(error).__name__)
        finally:
            self.handled += len(spans)
        if self._over:
            return result
        if result is SpanExportResult.SUCCESS:
            self._metrics.spans.labels("sent").inc(len(spans))
        else:
            self.lost(len(spans), "collector")
        return result

    def lost(self, count: int, reason: str) -> None:
        self._metrics.spans.labels("lost").inc(count)
        self._unlogged += count
        now = time.monotonic()
        if now - self._logged >= LOG_EVERY:
            detail = "; ".join(self._sdk_log.texts)[:LONGEST_DETAIL]
            fields = {"endpoint": self._endpoint, "reason": reason, "spans": self._unlogged, "detail": detail}
            log.warning("spans are lost", extra={"fields": fields})
            self._logged, self._unlogged = now, 0

    def give_up(self, count: int) -> None:
        """Count ``count`` spans as lost, and no more of what a batch in progress comes to."""
        self._over = True
        self._sdk_log.texts.append("given up at the end")
        self.lost(count, "collector")

    def shutdown(self) -> None:
        if self._inner is not None:
            self._inner.shutdown()


class _SdkLog(logging.Handler):
    """Takes the place of the SDK's log, which has a line for every attempt, and keeps the last two messages."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: deque[str] = deque(maxlen=2)
        sdk = logging.getLogger("opentelemetry")
        sdk.handlers, sdk.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _exporter(settings: TraceExporter, out: TextIO) -> Callable[[], SpanExporter]:
    """A function that builds the exporter of ``settings``; it raises OSError where a certificate cannot be read."""
    headers = {name.lower(): value.get_secret_value() for name, value in settings.headers.items()}
    scheme = "http" if settings.insecure else "https"
    match settings.type:
        case "otlp":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

            return lambda: OTLPSpanExporter(
                f"{scheme}://{settings.endpoint}",
                insecure=settings.insecure,
                credentials=None if settings.insecure else _credentials(),
                headers=headers,
                timeout=SEND_WITHIN,
            )
        case "otlp_http":
            from triton_router.telemetry import otlp_http

            endpoint = settings.endpoint if "/" in settings.endpoint else f"{settings.endpoint}/v1/traces"
            return lambda: otlp_http.exporter(f"{scheme}://{endpoint}", headers, SEND_WITHIN)
        case "stdout":
            return lambda: ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n")


def _credentials() -> Any:
    """From the files of https://opentelemetry.io/docs/specs/otel/protocol/exporter/.

    Where one is missing, the exporter itself would go on with the system's authorities, and without a certificate of
    the router's.
    """
    import grpc

    files = []
    for name in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"):
        file = os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}") or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")
        files.append(Path(file).read_bytes() if file else None)
    return grpc.ssl_channel_credentials(*files)


def _resource_attributes(settings: TraceResource) -> dict[str, Any]:
    attributes = {
        "service.name": settings.service_name,
        "service.version": settings.service_version or __version__,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        "deployment.environment.name": settings.deployment_environment,
    }
    return {name: value for name, value in attributes.items() if value is not None}


def _sendable(value: Any) -> Any:
    """Text of bounded length that protobuf can carry; a span's name that it cannot would cost the whole batch."""
    if isinstance(value, str):
        return value[:LONGEST_TEXT].encode("utf-8", "replace").decode()
    return [_sendable(each) for each in value] if isinstance(value, list | tuple) else value

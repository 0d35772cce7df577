"""Sending spans by OpenTelemetry. The only module that imports it, and imported itself only where tracing is on.

Spans are told of when they are over, with the times that they had: an exchange costs nothing extra while it is being
routed, and what is not sampled is never built.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from threading import Thread
from time import perf_counter
from typing import Any, TextIO

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from router import __version__
from router.config.schema import TraceExporter, TraceResource, TraceSampling, TracingSettings
from router.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

# Spans that wait to be sent; a collector that is down costs a few megabytes and no more.
QUEUE = 8192
BATCH = 512
# Seconds between batches, for one batch with all its attempts, and between two complaints about lost spans.
PAUSE, SEND_WITHIN, COMPLAIN_EVERY = 1.0, 5.0, 60.0
LONGEST_TEXT = 256

SERVER, CLIENT, INTERNAL = SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL
Identity = SpanContext
Value = str | bool | int | float | Sequence[str] | None


class Traces:
    """Makes traces and sends their spans in batches from a thread. Use it in one thread, and :meth:`close` it.

    ``out`` is where the exporter ``stdout`` writes.
    """

    def __init__(self, settings: TracingSettings, metrics: Metrics, out: TextIO = sys.stdout) -> None:
        self._exporter = _Counted(_exporter(settings.exporter, out), metrics, settings.exporter.endpoint)
        self._processor = BatchSpanProcessor(self._exporter, QUEUE, PAUSE * 1000, BATCH)
        self.sampler = _sampler(settings.sampling)
        self.ids = RandomIdGenerator()
        self.resource = Resource.create(_described(settings.resource))
        self.scope = InstrumentationScope("triton-router", __version__)
        self._propagator = TraceContextTextMapPropagator()
        # Only ever grows, as what the exporter has handled does, each in a thread of its own: no lock.
        self._accepted = 0

    def begin(self, headers: Mapping[str, str]) -> Trace:
        """A trace for a request with these ``headers`` (lower case): the caller's, or one of its own."""
        return Trace(self, self._caller(headers))

    def _caller(self, headers: Mapping[str, str]) -> SpanContext | None:
        if "traceparent" not in headers:
            return None
        caller = get_current_span(self._propagator.extract(headers)).get_span_context()
        return caller if caller.is_valid else None

    def send(self, span: ReadableSpan) -> None:
        """Take ``span`` over; one more than the queue holds is lost."""
        if self._accepted - self._exporter.handled >= QUEUE:
            self._exporter.lost(1, "queue")
            return
        self._accepted += 1
        self._processor.on_end(span)

    def close(self, seconds: float) -> None:
        """Send what waits, for ``seconds`` at most, and stop."""
        ending = Thread(target=self._processor.shutdown, name="traces-end", daemon=True)
        ending.start()
        ending.join(seconds)
        if ending.is_alive():
            # Ends attempts in progress and the pauses between them.
            self._exporter.shutdown()
            ending.join(1)


class Trace:
    """The spans of one exchange, of which ``root`` is the first; ``sampled`` says whether any are wanted.

    ``joined`` says that the caller's trace goes on. Times are those of :func:`time.perf_counter`.
    """

    __slots__ = ("_caller", "_flags", "_offset", "_state", "_trace_id", "_traces", "joined", "root", "sampled")

    def __init__(self, traces: Traces, caller: SpanContext | None) -> None:
        self._traces, self._caller, self.joined = traces, caller, caller is not None
        self._trace_id = caller.trace_id if caller else traces.ids.generate_trace_id()
        parent = set_span_in_context(NonRecordingSpan(caller)) if caller else None
        self.sampled = (
            traces.sampler.should_sample(parent, self._trace_id, "route").decision is Decision.RECORD_AND_SAMPLE
        )
        self._flags = TraceFlags(TraceFlags.SAMPLED if self.sampled else TraceFlags.DEFAULT)
        self._state = caller.trace_state if caller else None
        self._offset = time.time_ns() - int(perf_counter() * 1e9)
        self.root = self.new()

    def new(self) -> Identity:
        """An identity for a span that others hang under before it is over."""
        return SpanContext(self._trace_id, self._traces.ids.generate_span_id(), False, self._flags, self._state)

    def traceparent(self, span: Identity) -> str:
        """The header that makes the next server's spans children of ``span``."""
        return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"

    def span(
        self,
        name: str,
        began: float,
        ended: float,
        attributes: Mapping[str, Value],
        *,
        below: Identity | None = None,
        identity: Identity | None = None,
        kind: SpanKind = INTERNAL,
        events: Sequence[tuple[str, float]] = (),
        error: str | None = None,
    ) -> None:
        """Send a span that is over. Attributes that are ``None`` are left out, events are names with their times.

        ``identity`` is the span's own, if it has one already; it hangs below the root unless ``below`` says where.
        ``error`` is a word for what went wrong.
        """
        identity = identity or self.new()
        said = {key: _sendable(value) for key, value in attributes.items() if value is not None}
        if error is not None:
            said["error.type"] = error
        # Through `Tracer.start_span` the same costs ten times as much: locks, limits and callbacks for a span that
        # others could still change.
        span = ReadableSpan(
            name=_sendable(name),
            context=identity,
            parent=self._caller if identity is self.root else below or self.root,
            resource=self._traces.resource,
            attributes=said,
            events=[Event(event, timestamp=self._wall(at)) for event, at in events],
            kind=kind,
            status=Status(StatusCode.UNSET if error is None else StatusCode.ERROR),
            start_time=self._wall(began),
            end_time=self._wall(ended),
            instrumentation_scope=self._traces.scope,
        )
        self._traces.send(span)

    def _wall(self, moment: float) -> int:
        return self._offset + int(moment * 1e9)


class _Counted(SpanExporter):
    """An exporter that counts what becomes of spans and complains once a minute, instead of at each attempt."""

    def __init__(self, exporter: SpanExporter, metrics: Metrics, endpoint: str) -> None:
        self._inner, self._metrics, self._endpoint = exporter, metrics, endpoint
        self._said = _LastWord()
        self._complained = -COMPLAIN_EVERY
        self._unsaid = 0
        self.handled = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._inner.export(spans)
        except Exception as error:
            self._said.text = type(error).__name__
        finally:
            self.handled += len(spans)
        if result is SpanExportResult.SUCCESS:
            self._metrics.spans.labels("sent").inc(len(spans))
        else:
            self.lost(len(spans), "collector")
        return result

    def lost(self, count: int, reason: str) -> None:
        self._metrics.spans.labels("lost").inc(count)
        self._unsaid += count
        now = time.monotonic()
        if now - self._complained >= COMPLAIN_EVERY:
            fields = {"endpoint": self._endpoint, "reason": reason, "spans": self._unsaid, "detail": self._said.text}
            log.warning("spans are lost", extra={"fields": fields})
            self._complained, self._unsaid = now, 0

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


class _LastWord(logging.Handler):
    """Keeps what the SDK last logged, which is a line at every attempt, in the place of its log."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.text = ""
        sdk = logging.getLogger("opentelemetry")
        sdk.handlers, sdk.propagate = [self], False

    def emit(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()[:300]


def _exporter(settings: TraceExporter, out: TextIO) -> SpanExporter:
    headers = {name.lower(): value.get_secret_value() for name, value in settings.headers.items()}
    match settings.type:
        case "otlp":
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc

            return OverGrpc(settings.endpoint, insecure=settings.insecure, headers=headers or None, timeout=SEND_WITHIN)
        case "otlp_http":
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp

            where = settings.endpoint if "/" in settings.endpoint else f"{settings.endpoint}/v1/traces"
            url = f"{'http' if settings.insecure else 'https'}://{where}"
            return OverHttp(url, headers=headers or None, timeout=SEND_WITHIN)
        case "stdout":
            return ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n")


def _sampler(settings: TraceSampling) -> Sampler:
    share = settings.share
    sampler = {1.0: ALWAYS_ON, 0.0: ALWAYS_OFF}.get(share) or TraceIdRatioBased(share)
    return ParentBased(sampler) if settings.follows_parent else sampler


def _described(settings: TraceResource) -> dict[str, Any]:
    described = {
        "service.name": settings.service_name,
        "service.version": settings.service_version or __version__,
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
        "deployment.environment.name": settings.deployment_environment,
    }
    return {name: value for name, value in described.items() if value is not None}


def _sendable(value: Any) -> Any:
    """Text that protobuf can carry, of bounded length: one span that it cannot would take its whole batch along."""
    if isinstance(value, str):
        return value[:LONGEST_TEXT].encode("utf-8", "replace").decode()
    return [_sendable(each) for each in value] if isinstance(value, list | tuple) else value

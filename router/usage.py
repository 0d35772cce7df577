"""What responses cost by model or adapter: tokens, money, time to the first token and for each, and how they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import orjson

from triton_router.answers import Answer, Usage
from triton_router.config.observability import UsageSettings
from triton_router.config.schema import Pricing
from triton_router.edits import EVENT_END, BodyFilter, Chained, Withheld
from triton_router.telemetry import Metrics
from triton_router.vitals import Flight


class Edits(Protocol):
    """Makes what changes a response on its way, ``streamed`` or whole."""

    def __call__(self, *, streamed: bool) -> BodyFilter: ...

    @property
    def withholds(self) -> bool:
        """Whether a response that cannot be read is not for the client."""


# Finish reasons as answers are read; anything else is counted as one.
REASONS = frozenset(
    {"stop", "length", "tool_calls", "content_filter", "function_call", "stop_sequence", "abort", "error"}
)

# An event that is longer carries more than a count, and does not wait for its end.
LONGEST_COUNT = 64 * 1024


class WithoutUsage:
    """A stream without the event that carries the usage and nothing else, out of pieces that end anywhere.

    Whole events pass as they are; the beginning of one waits for its end.
    """

    __slots__ = ("_pieces", "_seam", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._seam = b""

    def feed(self, piece: bytes, *, last: bool = False) -> bytes:
        """Returns what the client gets now."""
        self._pieces.append(piece)
        self._size += len(piece)
        # The end of an event may begin in the piece before.
        seam = self._seam + piece
        if last or self._size > LONGEST_COUNT or EVENT_END.search(seam):
            return self._filter(b"".join(self._pieces), last)
        self._seam = seam[-3:]
        return b""

    def _filter(self, stream: bytes, last: bool) -> bytes:
        events, start = [], 0
        for end in EVENT_END.finditer(stream):
            event = stream[start : end.end()]
            if not _only_usage(event):
                events.append(event)
            start = end.end()
        rest = stream[start:]
        if last or len(rest) > LONGEST_COUNT:
            events.append(rest)
            rest = b""
        self._pieces, self._size, self._seam = [rest], len(rest), rest[-3:]
        return b"".join(events)


def _only_usage(event: bytes) -> bool:
    if b'"usage"' not in event or not (data := event.strip()).startswith(b"data:"):
        return False
    try:
        chunk = orjson.loads(data[5:])
    except orjson.JSONDecodeError:
        return False
    return isinstance(chunk, dict) and chunk.get("choices") == [] and isinstance(chunk.get("usage"), dict)


def cost(usage: Usage, price: Pricing) -> float:
    """The price of ``usage``, in the currency of ``price``."""
    cached_price = price.prompt_per_1m if price.cached_input_per_1m is None else price.cached_input_per_1m
    write_price = price.prompt_per_1m if price.cache_write_per_1m is None else price.cache_write_per_1m
    cached = min(usage.cached, usage.prompt)
    written = min(usage.written, usage.prompt - cached)
    spent = (usage.prompt - cached - written) * price.prompt_per_1m + cached * cached_price + written * write_price
    return (spent + usage.completion * price.completion_per_1m) / 1_000_000


@dataclass(slots=True)
class AnswerSummary:
    """How the response to one forwarded request ended.

    ``status`` is 0 if no response came; ``first`` is when a stream's first text came (``perf_counter``), 0 without one.
    ``answer`` is there if its body was read, and ``whole`` if that was all of it.
    """

    status: int = 0
    first: float = 0.0
    answer: Answer | None = None
    whole: bool = False


class UsageObserver:
    """Counts what the response to one forwarded request costs; an :class:`triton_router.exchange.Observer`.

    ``model`` is a metric's label. It asks for a body only where the settings want usage from such a response, ``keep``
    wants the answer itself, or there is a ``listener`` or something to ``settle``. ``answer_type`` is the answer's
    class, ``None`` for responses that carry no text. At the end ``keep`` gets the answer, or ``None`` where no whole
    one came; ``listener`` and ``settle`` get the summary. ``conceal`` takes a count out of a stream that the client
    did not ask for; ``edits`` makes what changes a response, streamed or whole. ``start_flight`` begins the request's
    flight once it is sent; ``on_status`` gets the response's status and headers.

    It has 20 attributes: ten that say what to do, and ten for the state of a response that comes in pieces.
    """

    __slots__ = (
        "_answer", "_answer_type", "_conceal", "_edits", "_filter", "_first", "_flight", "_keep", "_last", "_metrics",
        "_model", "_on_status", "_price", "_settings", "_settle", "_start_flight", "_started", "_status", "_whole",
        "listener",
    )  # fmt: skip

    def __init__(
        self,
        metrics: Metrics,
        model: str,
        settings: UsageSettings,
        keep: Callable[[Answer | None], None] | None = None,
        *,
        answer_type: type[Answer] | None,
        price: Pricing | None = None,
        conceal: bool = False,
        start_flight: Callable[[], Flight] | None = None,
        edits: Edits | None = None,
        settle: Callable[[AnswerSummary], None] | None = None,
        on_status: Callable[[int, Mapping[str, str]], None] | None = None,
    ) -> None:
        self._metrics, self._model, self._settings, self._keep = metrics, model, settings, keep
        self._answer_type, self._price = answer_type, price
        self._conceal, self._edits, self._on_status = conceal, edits, on_status
        self._filter: Chained | None = None
        self._started = perf_counter()
        self._start_flight, self._settle = start_flight, settle
        self._flight: Flight | None = None
        self._answer: Answer | None = None
        self._first = self._last = 0.0
        self._status, self._whole = 0, False
        self.listener: Callable[[AnswerSummary], None] | None = None

    def on_sent(self) -> None:
        """The request goes to the backend."""
        if self._start_flight is not None:
            self._flight = self._start_flight()

    def on_headers(self, status: int, headers: Mapping[str, str]) -> bool:
        """The backend's headers are here. Returns whether the body is wanted."""
        self._status = status
        if self._on_status is not None:
            self._on_status(status, headers)
        seconds = self._metrics.upstream_seconds.labels(self._model, f"{status // 100}xx")
        seconds.observe(perf_counter() - self._started)
        observed = self._wanted(status, headers)
        if self._flight is not None and not (observed and self._answer is not None and self._answer.streamed):
            # Of a stream that nobody reads, this is the first that comes.
            self._flight.arrive(well=status == 200)
        return observed

    def _wanted(self, status: int, headers: Mapping[str, str]) -> bool:
        if self._answer_type is None or status != 200:
            return False
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        streamed = kind == "text/event-stream"
        plain = headers.get("content-encoding", "identity") == "identity"
        if not plain or not (streamed or kind == "application/json"):
            if self._edits is not None and self._edits.withholds:
                self._filter = Chained([Withheld()])
            return self._filter is not None
        observed = self._settings.streams if streamed else self._settings.answers
        observed = observed or bool(self._keep or self.listener or self._edits or self._settle)
        if not observed:
            return False
        self._answer = self._answer_type(streamed)
        edit = self._edits(streamed=streamed) if self._edits else None
        filters = [WithoutUsage()] if self._conceal and streamed else []
        self._filter = Chained([*filters, *([edit] if edit else [])]) if filters or edit else None
        return True

    @property
    def watches(self) -> bool:
        """Whether the response is to be watched at all: where any is counted, its status is too."""
        settings, wishes = (
            self._settings,
            (self._keep, self.listener, self._settle, self._start_flight, self._edits, self._on_status),
        )
        return settings.answers or settings.streams or self._conceal or any(wishes)

    @property
    def shortens(self) -> bool:
        """Whether the client may get more or less than the backend sends."""
        return self._filter is not None

    @property
    def checks(self) -> bool:
        """Whether :meth:`check` comes before :meth:`on_body`."""
        return self._filter is not None and self._filter.checks

    async def check(self, piece: bytes, *, last: bool) -> None:
        """Ask about a piece what has to be asked."""
        if self._filter is not None:
            await self._filter.check(piece, last=last)

    def on_body(self, piece: bytes, *, last: bool = False) -> bytes | None:
        """A piece of the body. Returns what the client gets in its place, ``None`` for the piece as it is."""
        if self._answer is not None and self._answer.feed(piece):
            self._last = perf_counter()
            if not self._first:
                self._first = self._last
                self._metrics.first_token_seconds.labels(self._model).observe(self._first - self._started)
                if self._flight is not None:
                    self._flight.arrive()
        if self._filter is None:
            return None
        rest = self._filter.feed(piece, last=last)
        return None if rest == piece else rest

    def on_complete(self) -> None:
        """The whole body has been received."""
        if self._answer is not None:
            self._answer.finish()
            self._whole = True

    def on_end(self) -> None:
        """The exchange is over, complete or not."""
        answer, self._answer = self._answer, None
        keep, self._keep = self._keep, None
        whole = self._whole or (answer is not None and answer.complete)
        # The listener may hold what holds this.
        listener, self.listener = self.listener, None
        settle, self._settle = self._settle, None
        for each in (listener, settle):
            if each is not None:
                each(AnswerSummary(self._status, self._first, answer, whole))
        if keep is not None:
            # Clients hang up once they have read a stream's last event; that was all of it.
            keep(answer if answer is not None and answer.complete else None)
        if answer is not None:
            self._count(answer)
        if self._flight is not None:
            self._flight.end()
            self._flight = None

    def _count(self, answer: Answer) -> None:
        reason = answer.finish_reason if answer.finish_reason in REASONS else "other"
        self._metrics.finished.labels(self._model, reason if answer.complete else "aborted").inc()
        completion = answer.usage.completion if answer.usage is not None else 0
        if answer.chunks > 1 and answer.streamed:
            each = (self._last - self._first) / (answer.chunks - 1)
            self._metrics.token_seconds.labels(self._model).observe(each)
            if self._flight is not None:
                # Without a count, most servers send one token in each piece.
                self._flight.tokens(self._last - self._first, (completion or answer.chunks) - 1)
        elif self._flight is not None and answer.complete and not answer.streamed:
            self._flight.tokens(perf_counter() - self._started, completion)
        if answer.usage is None:
            return
        for kind in ("prompt", "completion", "cached"):
            self._metrics.tokens.labels(self._model, kind).inc(getattr(answer.usage, kind))
        if self._price is not None:
            spent = self._metrics.cost.labels(self._model, self._price.currency)
            spent.inc(cost(answer.usage, self._price))

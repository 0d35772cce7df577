"""What answers cost: tokens, time to the first one, time for each, and how they ended, by model or adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter

from router.answers import Answer
from router.config.schema import UsageSettings
from router.dialects.chat import ChatAnswer
from router.telemetry import Metrics

# Finish reasons as answers are read; anything else is counted as one.
REASONS = frozenset(
    {"stop", "length", "tool_calls", "content_filter", "function_call", "stop_sequence", "abort", "error"}
)


class Observer:
    """Hears of the answer to one forwarded request. ``model`` is a metric's label.

    Bodies are asked for only where the settings want usage from such an answer, or ``keep`` wants the answer itself;
    ``read`` is what they are read with.
    """

    __slots__ = ("_answer", "_first", "_keep", "_last", "_metrics", "_model", "_read", "_settings", "_started")

    def __init__(
        self,
        metrics: Metrics,
        model: str,
        settings: UsageSettings,
        keep: Callable[[Answer], None] | None = None,
        read: type[Answer] = ChatAnswer,
    ) -> None:
        self._metrics, self._model, self._settings, self._keep, self._read = metrics, model, settings, keep, read
        self._started = perf_counter()
        self._answer: Answer | None = None
        self._first = self._last = 0.0

    def answered(self, status: int, headers: Mapping[str, str]) -> bool:
        """The backend's headers are here. Returns whether the body is wanted."""
        seconds = self._metrics.upstream_seconds.labels(self._model, f"{status // 100}xx")
        seconds.observe(perf_counter() - self._started)
        if status != 200 or headers.get("content-encoding", "identity") != "identity":
            return False
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        streamed = kind == "text/event-stream"
        wanted = self._settings.streams if streamed else self._settings.answers
        if not (wanted or self._keep) or not (streamed or kind == "application/json"):
            return False
        self._answer = self._read(streamed)
        return True

    def received(self, piece: bytes) -> None:
        """A piece of the body."""
        if self._answer is not None and self._answer.feed(piece):
            self._last = perf_counter()
            if not self._first:
                self._first = self._last
                self._metrics.first_token_seconds.labels(self._model).observe(self._first - self._started)

    def completed(self) -> None:
        """The whole body has been received."""
        if self._answer is not None:
            self._answer.finish()

    def ended(self) -> None:
        """The exchange is over, completed or not."""
        answer, self._answer = self._answer, None
        if answer is None:
            return
        # Clients hang up once they have read a stream's last event; that was all of it.
        if answer.complete and self._keep is not None:
            self._keep(answer)
        reason = answer.finish_reason if answer.finish_reason in REASONS else "other"
        self._metrics.finished.labels(self._model, reason if answer.complete else "aborted").inc()
        if answer.chunks > 1 and answer.streamed:
            each = (self._last - self._first) / (answer.chunks - 1)
            self._metrics.token_seconds.labels(self._model).observe(each)
        if answer.usage is not None:
            for kind, count in (
                ("prompt", answer.usage.prompt),
                ("completion", answer.usage.completion),
                ("cached", answer.usage.cached),
            ):
                self._metrics.tokens.labels(self._model, kind).inc(count)

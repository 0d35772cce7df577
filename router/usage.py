"""What answers cost: tokens, time to the first one, time for each, and how they ended, by model or adapter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter

from router.answers import Answer
from router.config.schema import UsageSettings
from router.telemetry import Metrics

# Finish reasons of OpenAI's API and vLLM's; anything else is counted as one.
REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call", "abort", "error"})


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of one forwarded request.

    ``status`` is 0 if no answer came; ``first`` is when a stream's first text came (``perf_counter``), 0 without one.
    ``answer`` is there if its body was read, and ``whole`` if that was all of it.
    """

    status: int = 0
    first: float = 0.0
    answer: Answer | None = None
    whole: bool = False


class Observer:
    """Hears of the answer to one forwarded request. ``model`` is a metric's label.

    Bodies are asked for only where the settings want usage from such an answer, or ``keep`` wants the answer itself, or
    somebody has set ``tell``, which is called once at the end.
    """

    __slots__ = (
        "_answer",
        "_first",
        "_keep",
        "_last",
        "_metrics",
        "_model",
        "_settings",
        "_started",
        "_status",
        "_whole",
        "tell",
    )

    def __init__(
        self, metrics: Metrics, model: str, settings: UsageSettings, keep: Callable[[Answer], None] | None = None
    ) -> None:
        self._metrics, self._model, self._settings, self._keep = metrics, model, settings, keep
        self._started = perf_counter()
        self._answer: Answer | None = None
        self._first = self._last = 0.0
        self._status, self._whole = 0, False
        self.tell: Callable[[Heard], None] | None = None

    def answered(self, status: int, headers: Mapping[str, str]) -> bool:
        """The backend's headers are here. Returns whether the body is wanted."""
        self._status = status
        seconds = self._metrics.upstream_seconds.labels(self._model, f"{status // 100}xx")
        seconds.observe(perf_counter() - self._started)
        if status != 200 or headers.get("content-encoding", "identity") != "identity":
            return False
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        streamed = kind == "text/event-stream"
        wanted = self._settings.streams if streamed else self._settings.answers
        if not (wanted or self._keep or self.tell) or not (streamed or kind == "application/json"):
            return False
        self._answer = Answer(streamed)
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
            self._whole = True

    def ended(self) -> None:
        """The exchange is over, completed or not."""
        answer, self._answer = self._answer, None
        if self.tell is not None:
            # Clients hang up once they have read a stream's last event.
            whole = self._whole or (answer is not None and answer.complete)
            self.tell(Heard(self._status, self._first, answer, whole))
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

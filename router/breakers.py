"""Which models and adapters rest: breakers of whole models, next to Envoy's ejection of single endpoints.

There is no state to keep in step: a breaker is a judgement of facts that all processes of a host share
(:mod:`triton_router.vitals`) by the settings of whoever asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from triton_router.config import Config
from triton_router.config.fallback import CircuitBreakerSettings
from triton_router.vitals import Field, Row, Vitals

# The longest that a backend may ask to be left alone, in seconds: one mistake of its is not to last for days.
LONGEST_WAIT = 600.0

# Asked for each request: plain numbers are quicker than members of an enumeration.
_FAILURES, _RETRY_AT, _SUCCEEDED_AT = int(Field.FAILURES), int(Field.RETRY_AT), int(Field.SUCCEEDED_AT)

State = Literal["closed", "half_open", "open", "waiting"]


@dataclass(frozen=True, slots=True)
class Breaker:
    """The judgement of one moment. ``seconds`` is how long it stands, for `open` and `waiting`."""

    state: State
    seconds: float = 0.0

    @property
    def lets_pass(self) -> bool:
        return self.state in ("closed", "half_open")


CLOSED, HALF_OPEN = Breaker("closed"), Breaker("half_open")


class Breakers:
    """What this process knows of failures, and adds. Names are those of :func:`.vitals.named`."""

    def __init__(self, vitals: Vitals, clock: Callable[[], float] = time.monotonic) -> None:
        self._vitals, self._clock = vitals, clock

    def judge(self, name: str, settings: CircuitBreakerSettings) -> Breaker:
        """Whether ``name`` may be asked.

        `waiting` until the time that its `retry-after` named; `open` for the cooldown after as many failures in a row
        as the settings allow; then `half_open` while fewer probes are out than they allow.
        """
        rows = self._vitals.rows(name)
        for row in rows:
            if row.numbers[_FAILURES] or row.numbers[_RETRY_AT]:
                break
        else:
            return CLOSED
        now = self._clock()
        if (until := _latest(rows, Field.RETRY_AT)) > now:
            return Breaker("waiting", until - now)
        answered, failed = _latest(rows, Field.SUCCEEDED_AT), _latest(rows, Field.FAILED_AT)
        failures = sum(row[Field.FAILURES] for row in rows if row[Field.FAILED_AT] > answered)
        if failures < settings.consecutive_failures:
            return CLOSED
        if (remaining := failed + settings.cooldown_period - now) > 0:
            return Breaker("open", remaining)
        fresh = max(failed, now - settings.cooldown_period)
        probes = [row for row in rows if row[Field.PROBED_AT] > fresh]
        if sum(row[Field.PROBES] for row in probes) < settings.half_open_probes:
            return HALF_OPEN
        return Breaker("open", _latest(probes, Field.PROBED_AT) + settings.cooldown_period - now)

    def troubled(self, name: str) -> bool:
        """Whether ``name`` has failed since it last answered, as far as that was seen."""
        return any([row.numbers[_FAILURES] for row in self._vitals.rows(name)])

    def probe(self, name: str, settings: CircuitBreakerSettings) -> None:
        """A request goes to ``name``, whose breaker is half open."""
        row, now = self._vitals.row(name), self._clock()
        fresh = max(_latest(self._vitals.rows(name), Field.FAILED_AT), now - settings.cooldown_period)
        row[Field.PROBES] = row[Field.PROBES] + 1 if row[Field.PROBED_AT] > fresh else 1
        row[Field.PROBED_AT] = now

    def succeeded(self, name: str) -> None:
        """``name`` has begun to answer a request."""
        numbers = self._vitals.row(name).numbers
        numbers[_SUCCEEDED_AT] = self._clock()
        if numbers[_FAILURES]:
            numbers[_FAILURES] = 0.0

    def failed(self, name: str, *, retry_after: float | None = None) -> None:
        """``name`` could not answer, and asks to be left alone for ``retry_after`` seconds."""
        row, rows, now = self._vitals.row(name), self._vitals.rows(name), self._clock()
        if _latest(rows, Field.SUCCEEDED_AT) >= row[Field.FAILED_AT]:
            row[Field.FAILURES] = 0.0
        row[Field.FAILURES] += 1
        row[Field.FAILED_AT] = now
        if retry_after is not None and retry_after > 0:
            row[Field.RETRY_AT] = max(row[Field.RETRY_AT], now + min(retry_after, LONGEST_WAIT))


def resting(config: Config, vitals: Vitals) -> dict[str, Breaker]:
    """The models and adapters of ``config`` that are not asked now, as its first policy judges them."""
    policy = next((policy for policy in config.fallbacks() if policy.enabled), None)
    if policy is None:
        return {}
    breakers = Breakers(vitals)
    judged = {label: breakers.judge(name, policy.circuit_breaker) for label, name in config.targets().items()}
    return {label: breaker for label, breaker in judged.items() if not breaker.lets_pass}


def retry_after(status: int, text: str) -> float | None:
    """The seconds of a response's `retry-after`, which may name a time instead (RFC 9110, 10.2.3).

    It asks to be left alone only with 429 (RFC 6585, 4) and 503.
    """
    text = text.strip()
    if status not in (429, 503):
        return None
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    aware = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
    return max((aware - datetime.now(UTC)).total_seconds(), 0.0)


def _latest(rows: list[Row], field: Field) -> float:
    return max((row[field] for row in rows), default=0.0)

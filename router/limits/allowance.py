"""What a caller may still ask for, in the response headers that the APIs' clients read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from triton_router.names import MESSAGES_PATH

Measure = Literal["requests", "tokens", "cost"]

# Clients know no header for money.
_SHOWN: tuple[Measure, ...] = ("requests", "tokens")


@dataclass(frozen=True, slots=True)
class Allowance:
    """``remaining`` of the ``limit`` of one rule until ``ends``, in seconds of the epoch."""

    measure: Measure
    limit: int
    remaining: int
    ends: float


def allowance_headers(path: str, allowances: Iterable[Allowance], now: float) -> Mapping[str, str]:
    """For each measure the rule of which the least remains, by the names of the API at ``path``."""
    headers: dict[str, str] = {}
    by_least = sorted(allowances, key=lambda each: (each.remaining, -each.ends))
    for measure in _SHOWN:
        least = next((each for each in by_least if each.measure == measure), None)
        if least is not None and path == MESSAGES_PATH:
            # https://docs.anthropic.com/en/api/rate-limits
            until = datetime.fromtimestamp(math.ceil(least.ends), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            values = {"limit": str(least.limit), "remaining": str(least.remaining), "reset": until}
            headers |= {f"anthropic-ratelimit-{measure}-{name}": value for name, value in values.items()}
        elif least is not None:
            # https://platform.openai.com/docs/guides/rate-limits
            wait = _duration(math.ceil(max(least.ends - now, 0)))
            values = {"limit": str(least.limit), "remaining": str(least.remaining), "reset": wait}
            headers |= {f"x-ratelimit-{name}-{measure}": value for name, value in values.items()}
    return headers


def _duration(seconds: int) -> str:
    """Such as `6m0s`."""
    hours, minutes = seconds // 3600, seconds // 60
    if hours:
        return f"{hours}h{minutes % 60}m{seconds % 60}s"
    return f"{minutes}m{seconds % 60}s" if minutes else f"{seconds}s"

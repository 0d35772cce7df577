"""The last requests of one process, for whoever watches: no prompt, no answer, and no more than fits."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from triton_router.record import Record

# What a view that is asked for once a second can show.
CAPACITY = 100


class LiveLog:
    """Use it inside one event loop. Requests have numbers, from 1."""

    def __init__(self) -> None:
        self._requests: deque[dict[str, Any]] = deque(maxlen=CAPACITY)
        self._last = 0

    def note(self, record: Record) -> None:
        """A request has got its response, or is forwarded."""
        self._last += 1
        decision, selection = record.decision, record.selection
        total = record.stages.get("total")
        self._requests.append({
            "time": time.time(),
            "path": record.path,
            "decision": decision.name if decision is not None else None,
            "model": selection.model if selection is not None else None,
            "reasoning": selection.use_reasoning if selection is not None else None,
            "cache": record.cache_hit,
            "degraded": list(record.degraded),
            "failed": record.failed,
            "status": record.error.status if record.error is not None else None,
            "ms": (total[1] - total[0]) * 1000 if total is not None else None,
        })  # fmt: skip

    def since(self, number: int) -> dict[str, Any]:
        """The requests after the one of that ``number``: `last` (its successor), `requests` kept, and `skipped`."""
        # A process that was started again counts from the beginning.
        count = self._last - number if number <= self._last else self._last
        requests = list(self._requests)[-count:] if count else []
        return {"last": self._last, "requests": requests, "skipped": count - len(requests)}

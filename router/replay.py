"""Audit records of recent requests, to be looked up by the id that the response carried."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Any

from triton_router.config.services import ReplaySettings
from triton_router.exchange import Request

# Bytes of requests and prompts in one answer: it travels in one line between two processes.
LONGEST_ANSWER = 32 * 1024 * 1024


class ReplayLog:
    """The last records: at most ``max_records`` of them, none older than ``ttl_seconds``.

    The requests in them take at most ``max_total_bytes``.
    """

    def __init__(self, settings: ReplaySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, int, dict[str, Any]]] = OrderedDict()
        self._bytes = 0

    def keep(self, record: dict[str, Any], request: Request | None = None, headers: Collection[str] = ()) -> str:
        """Remember ``record``, and the ``request`` with those of its headers; returns the record's id."""
        now, size = self._clock(), 0
        if request is not None and len(request.body) <= self.settings.max_request_bytes:
            size = len(request.body)
            record = record | {"sent": _original(request, headers)}
        while self._entries and self._must_go(now, size):
            _, (_, freed, _) = self._entries.popitem(last=False)
            self._bytes -= freed
        identity = secrets.token_hex(16)
        self._entries[identity] = now, size, record
        self._bytes += size
        return identity

    def find(self, identity: str) -> dict[str, Any] | None:
        """The record of an id, unless it is gone."""
        entry = self._entries.get(identity)
        if entry is None or self._expired(entry[0], self._clock()):
            return None
        return {"id": identity, **entry[2]}

    def quoted(self, most: int) -> list[dict[str, Any]]:
        """The last ``most`` records that keep a prompt or a request, oldest first; less of them than 32 MiB."""
        now, room = self._clock(), LONGEST_ANSWER
        quoted: list[dict[str, Any]] = []
        for identity, (at, size, record) in reversed(self._entries.items()):
            room -= size + len(record.get("prompt", ""))
            if len(quoted) >= most or room < 0 or self._expired(at, now):
                break
            if "prompt" in record or "sent" in record:
                quoted.append({"id": identity, **record})
        return quoted[::-1]

    def _must_go(self, now: float, size: int) -> bool:
        """Whether the oldest record has to make room for one more of ``size``."""
        at, _, _ = next(iter(self._entries.values()))
        full = len(self._entries) >= self.settings.max_records
        return full or self._bytes + size > self.settings.max_total_bytes or self._expired(at, now)

    def _expired(self, at: float, now: float) -> bool:
        return now - at >= self.settings.ttl_seconds


def _original(request: Request, headers: Collection[str]) -> dict[str, Any]:
    return {
        "path": request.path.partition("?")[0],
        "headers": {name: request.headers[name] for name in headers if name in request.headers},
        "request": request.body.decode("utf-8", "replace"),
    }

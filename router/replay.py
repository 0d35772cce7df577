"""Audit records of recent requests, to be looked up by the id that the response carried."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from itertools import dropwhile
from typing import Any

from triton_router.config.services import ReplaySettings
from triton_router.exchange import Request

# Bytes of requests and prompts in one page of records: writing it takes a worker about a millisecond.
PAGE = 256 * 1024


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

    def quoted(self, most: int, before: str | None = None) -> list[dict[str, Any]]:
        """The last ``most`` records that keep a prompt or a request, oldest first, as many as a page holds.

        With ``before`` those that are older than the record of that id.
        """
        room = PAGE
        quoted: list[dict[str, Any]] = []
        for identity, size, record in self._quotable(before):
            room -= size + len(record.get("prompt", ""))
            if len(quoted) >= most or (room < 0 and quoted):
                break
            quoted.append({"id": identity, **record})
        return quoted[::-1]

    def count_quoted(self) -> int:
        """How many records keep a prompt or a request."""
        return sum(1 for _ in self._quotable(None))

    def _quotable(self, before: str | None) -> Iterator[tuple[str, int, dict[str, Any]]]:
        now = self._clock()
        entries = reversed(self._entries.items())
        if before is not None:
            # Where it has gone, all that is older has.
            entries = dropwhile(lambda entry: entry[0] != before, entries)
            next(entries, None)
        for identity, (at, size, record) in entries:
            if self._expired(at, now):
                return
            if "prompt" in record or "sent" in record:
                yield identity, size, record

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

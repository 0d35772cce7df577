"""Audit records of recent requests, to be looked up by the id that the response carried."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from triton_router.config.services import ReplaySettings


class ReplayLog:
    """The last records: at most ``max_records`` of them, none older than ``ttl_seconds``."""

    def __init__(self, settings: ReplaySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._entries: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    def keep(self, record: dict[str, Any]) -> str:
        """Remember ``record``; returns its id."""
        now = self._clock()
        while self._entries and (
            len(self._entries) >= self.settings.max_records or self._expired(next(iter(self._entries.values())), now)
        ):
            self._entries.popitem(last=False)
        identity = secrets.token_hex(16)
        self._entries[identity] = now, record
        return identity

    def find(self, identity: str) -> dict[str, Any] | None:
        """The record of an id, unless it is gone."""
        entry = self._entries.get(identity)
        if entry is None or self._expired(entry, self._clock()):
            return None
        return {"id": identity, **entry[1]}

    def _expired(self, entry: tuple[float, dict[str, Any]], now: float) -> bool:
        return now - entry[0] >= self.settings.ttl_seconds

"""Records of recent decisions, to be looked up by the id that the answer carried."""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from triton_router.config.services import ReplaySettings


class Records:
    """The last decisions: at most ``max_records`` of them, none older than ``ttl_seconds``."""

    def __init__(self, settings: ReplaySettings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self._clock = clock
        self._records: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    def keep(self, record: dict[str, Any]) -> str:
        """Remember ``record``; returns its id."""
        now = self._clock()
        while self._records and (
            len(self._records) >= self.settings.max_records or self._expired(next(iter(self._records.values())), now)
        ):
            self._records.popitem(last=False)
        name = secrets.token_hex(16)
        self._records[name] = now, record
        return name

    def find(self, name: str) -> dict[str, Any] | None:
        """The record of an id, unless it is gone."""
        kept = self._records.get(name)
        if kept is None or self._expired(kept, self._clock()):
            return None
        return {"id": name, **kept[1]}

    def _expired(self, kept: tuple[float, dict[str, Any]], now: float) -> bool:
        return now - kept[0] >= self.settings.ttl_seconds

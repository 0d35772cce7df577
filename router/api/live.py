"""The live view: server-sent events about requests as they happen, and the last hour.

Processes are asked once a second, while somebody watches; less often while many do, so that they cost requests little.
A view that does not read is dropped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from triton_router.api.history import History
from triton_router.jsontext import json_bytes

log = logging.getLogger(__name__)

# Events that wait for a view that is slow.
BACKLOG = 8
TICK = 1.0
# So many views are told each second; more have to wait for their turn that much longer.
VIEWS_A_TICK = 25
MOST_VIEWS = 100
# Requests in one event: more in a second than a person can look at.
SHOWN = 50

Source = Callable[[int], Awaitable[dict[str, Any]]]
"""Asks a process for the requests since a number; see :meth:`triton_router.live.LiveLog.since`."""


class LiveFeed:
    """``sources`` returns what to ask, always in the same order."""

    def __init__(self, sources: Callable[[], Sequence[Source]], history: History) -> None:
        self.history = history
        self._sources = sources
        self._views: set[asyncio.Queue[bytes | None]] = set()
        self._asking: asyncio.Task[None] | None = None
        self._first: tuple[float, bytes] | None = None

    @property
    def full(self) -> bool:
        """Whether no more views are served."""
        return len(self._views) >= MOST_VIEWS

    def open(self) -> asyncio.Queue[bytes | None]:
        """A new view's events; ``None`` ends them. The first has the last hour."""
        view: asyncio.Queue[bytes | None] = asyncio.Queue(BACKLOG)
        view.put_nowait(self._last_hour())
        self._views.add(view)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        return view

    def leave(self, view: asyncio.Queue[bytes | None]) -> None:
        """Nobody reads it any more."""
        self._views.discard(view)

    async def aclose(self) -> None:
        """End all views, so that the service can end."""
        for view in list(self._views):
            self._drop(view)

    def _last_hour(self) -> bytes:
        """Written once a span: many views may open at the same time, and the hour is long."""
        newest = self._newest
        if self._first is None or self._first[0] != newest:
            self._first = newest, _event("history", list(self.history.spans))
        return self._first[1]

    @property
    def _newest(self) -> float:
        return float(self.history.spans[-1]["time"]) if self.history.spans else 0.0

    async def _ask(self) -> None:
        try:
            await self._tell_all()
        finally:
            # Where that failed, views connect again.
            await self.aclose()

    async def _tell_all(self) -> None:
        """Tell all views, until there is none."""
        marks = [(await source(0))["last"] for source in self._sources()]
        newest = self._newest
        while self._views:
            await asyncio.sleep(TICK * max(1.0, len(self._views) / VIEWS_A_TICK))
            answers = await asyncio.gather(*(source(at) for source, at in zip(self._sources(), marks, strict=True)))
            marks = [answer["last"] for answer in answers]
            requests = sorted(
                (each for answer in answers for each in answer["requests"]), key=lambda each: each["time"]
            )
            skipped = sum(answer["skipped"] for answer in answers) + max(len(requests) - SHOWN, 0)
            self._tell(_event("requests", {"requests": requests[-SHOWN:], "skipped": skipped}))
            if self._newest != newest:
                newest = self._newest
                self._tell(_event("span", self.history.spans[-1]))

    def _tell(self, event: bytes) -> None:
        for view in list(self._views):
            try:
                view.put_nowait(event)
            except asyncio.QueueFull:
                log.info("a live view that does not read is dropped")
                self._drop(view)

    def _drop(self, view: asyncio.Queue[bytes | None]) -> None:
        self.leave(view)
        with suppress(asyncio.QueueEmpty):
            view.get_nowait()
        view.put_nowait(None)


def _event(name: str, data: Any) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + json_bytes(data) + b"\n\n"

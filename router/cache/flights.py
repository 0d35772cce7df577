"""Questions that a backend is answering right now: the same question, asked meanwhile, can wait for the answer."""

from __future__ import annotations

import asyncio


class Flights:
    """Exact keys of questions on their way. Use it inside one event loop."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Event] = {}

    def start(self, exact: str) -> bool:
        """Note that ``exact`` is on its way; ``False`` if it is already."""
        if exact in self._open:
            return False
        self._open[exact] = asyncio.Event()
        return True

    def land(self, exact: str) -> None:
        """``exact`` is answered, or will not be; whoever waits for it goes on."""
        landed = self._open.pop(exact, None)
        if landed is not None:
            landed.set()

    async def wait(self, exact: str, seconds: float) -> bool:
        """Wait for ``exact`` to land; whether it was on its way and did in time."""
        landed = self._open.get(exact)
        if landed is None:
            return False
        try:
            async with asyncio.timeout(seconds):
                await landed.wait()
        except TimeoutError:
            return False
        return True

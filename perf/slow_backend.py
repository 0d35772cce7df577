"""A backend that streams at a pace: ``POST /pace`` with a factor slows it down, and ``1`` mends it.

The time to the first piece is distributed log-normally around 60 ms; four more pieces follow within 80 ms.
"""

from __future__ import annotations

import asyncio
import random

from perf.backend import serve

FIRST_SECONDS, SPREAD, PIECES, PIECE_SECONDS = 0.06, 0.3, 4, 0.02
_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n'
_LAST = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


class _Backend:
    def __init__(self) -> None:
        self._factor, self._chance = 1.0, random.Random(1)

    async def answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"POST /pace"):
            self._factor = float(body)
            writer.write(_OK)
        elif head.startswith(b"GET "):
            writer.write(_OK)
        else:
            await self._stream(writer)

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        factor = self._factor
        await asyncio.sleep(FIRST_SECONDS * self._chance.lognormvariate(0, SPREAD) * factor)
        writer.write(_HEAD + _chunk(_EVENT))
        for _ in range(PIECES):
            await asyncio.sleep(PIECE_SECONDS * factor)
            writer.write(_chunk(_EVENT))
        writer.write(_chunk(_LAST) + b"0\r\n\r\n")
        await writer.drain()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


if __name__ == "__main__":
    serve(_Backend().answer)

"""A backend that falls ill when it is told to: ``POST /illness`` with the name of one, or with nothing to be well.

``500`` and ``429`` are statuses; ``close`` ends the connection without a response, ``reset`` breaks it, ``hang`` never
answers, ``midway`` breaks off within a response, ``context`` finds each prompt too long. Its health check stays green:
that is what makes an illness hard to notice. ``GET /count`` has the number of requests that it was asked.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from perf.backend import ANSWER, serve

_OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_REFUSED = b"HTTP/1.1 %s Ill\r\nretry-after: 1\r\ncontent-length: 2\r\n\r\n{}"
_TOO_LONG = (
    b"HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: 46\r\n\r\n"
    b'{"error": {"code": "context_length_exceeded"}}'
)
_BEGINNING = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
_HANGING_SECONDS = 60.0


class _Backend:
    illness = b""
    count = 0

    async def answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"POST /illness"):
            self.illness = body
            writer.write(_OK)
        elif head.startswith(b"GET /count"):
            count = b"%d" % self.count
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(count), count))
        elif head.startswith(b"GET "):
            writer.write(_OK)
        else:
            await self._answer(writer)

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        self.count += 1
        match self.illness:
            case b"":
                writer.write(ANSWER)
            case b"close":
                writer.close()
            case b"reset":
                # Without lingering, closing sends a reset.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.close()
            case b"context":
                writer.write(_TOO_LONG)
            case b"midway":
                writer.write(_BEGINNING)
                await writer.drain()
                # Envoy sees a response whose end comes with its beginning as none.
                await asyncio.sleep(0.1)
                writer.close()
            case b"hang":
                await asyncio.sleep(_HANGING_SECONDS)
                writer.close()
            case status:
                writer.write(_REFUSED % status)


if __name__ == "__main__":
    serve(_Backend().answer)

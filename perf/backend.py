"""The smallest backend: fixed answers, so that it is not what is measured.

A body with ``"stream"`` in it gets server-sent events; ``x-chunks: COUNT;SECONDS`` says how many over how long.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Awaitable, Callable

_MESSAGE = b'"message":{"role":"assistant","content":"Fine."},"finish_reason":"stop"'
_BODY = b'{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,%s}]}' % _MESSAGE
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":'
    b'{"content":" token"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_LAST = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},'
    b'"logprobs":null,"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_CHUNKS = re.compile(rb"x-chunks: (\d+);([0-9.]+)", re.IGNORECASE)


def serve(answer: Callable[[bytes, bytes, asyncio.StreamWriter], Awaitable[None]]) -> None:
    """Serve HTTP/1.1 on the port that the command line names, until the process ends.

    ``answer`` gets head and body of each request, and the writer, which it may close.
    """

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while not writer.is_closing():
                head, body = await reader.readuntil(b"\r\n\r\n"), b""
                if length := _LENGTH.search(head):
                    body = await reader.readexactly(int(length[1]))
                elif b"chunked" in head.lower():
                    while (size := int(await reader.readline(), 16)) or await reader.readline() != b"\r\n":
                        body += (await reader.readexactly(size + 2))[:-2]
                await answer(head, body, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(converse, "127.0.0.1", int(sys.argv[1]), backlog=1024)
        await server.serve_forever()

    asyncio.run(main())


async def _answer(head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
    if b'"stream"' in body:
        await _events(head, writer)
    else:
        writer.write(ANSWER)


async def _events(head: bytes, writer: asyncio.StreamWriter) -> None:
    chunks = _CHUNKS.search(head)
    count, seconds = (int(chunks[1]), float(chunks[2])) if chunks else (10, 0.0)
    began = time.monotonic()
    writer.write(_STREAM)
    for number in range(count):
        writer.write(b"%x\r\n%s\r\n" % (len(_EVENT), _EVENT))
        await writer.drain()
        await asyncio.sleep(max(began + (number + 1) * seconds / count - time.monotonic(), 0))
    writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(_LAST), _LAST))


if __name__ == "__main__":
    serve(_answer)

"""The smallest backend: one fixed answer, so that it is not what is measured."""

from __future__ import annotations

import asyncio
import re
import sys

_BODY = b'{"id":"1","object":"chat.completion","model":"m","choices":[]}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if length := _LENGTH.search(head):
                await reader.readexactly(int(length[1]))
            elif b"chunked" in head.lower():
                while (size := int(await reader.readline(), 16)) or await reader.readline() != b"\r\n":
                    await reader.readexactly(size + 2)
            writer.write(_ANSWER)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def _main(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))

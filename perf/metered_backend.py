"""A backend whose answers have a length: 50 to 150 tokens, after half a second. ``GET /used`` has their sum by model.

Tokens of the prompt count too; there are always five.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections import Counter

PROMPT, SHORTEST, LONGEST, SECONDS = 5, 50, 150, 0.5
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


class _Backend:
    def __init__(self) -> None:
        self._used: Counter[str] = Counter()
        self._chance = random.Random(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head, body = await reader.readuntil(b"\r\n\r\n"), b""
                if length := _LENGTH.search(head):
                    body = await reader.readexactly(int(length[1]))
                if head.startswith(b"GET "):
                    writer.write(_response(self._used))
                else:
                    await self._answer(json.loads(body)["model"], writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    async def _answer(self, model: str, writer: asyncio.StreamWriter) -> None:
        tokens = self._chance.randint(SHORTEST, LONGEST)
        self._used[model] += PROMPT + tokens
        await asyncio.sleep(SECONDS)
        choice = {"index": 0, "message": {"role": "assistant", "content": "Fine."}, "finish_reason": "stop"}
        usage = {"prompt_tokens": PROMPT, "completion_tokens": tokens}
        writer.write(_response({"model": model, "choices": [choice], "usage": usage}))


def _response(content: object) -> bytes:
    body = json.dumps(content).encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(body) + body


async def _main(port: int) -> None:
    server = await asyncio.start_server(_Backend().serve, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))

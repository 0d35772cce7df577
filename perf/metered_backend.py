"""A backend whose answers have a length: 50 to 150 tokens, after half a second. ``GET /used`` has their sum by model.

Tokens of the prompt count too; there are always five.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

from perf.backend import serve

PROMPT, SHORTEST, LONGEST, SECONDS = 5, 50, 150, 0.5


class _Backend:
    def __init__(self) -> None:
        self._used: Counter[str] = Counter()
        self._chance = random.Random(1)

    async def answer(self, head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        if head.startswith(b"GET "):
            writer.write(_response(self._used))
        else:
            await self._answer(json.loads(body)["model"], writer)

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


if __name__ == "__main__":
    serve(_Backend().answer)

"""A closed loop of HTTP/1.1 requests on raw streams: a fuller client would cost more than what is measured."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_AGE = re.compile(rb"\r\nage: (\d+)", re.IGNORECASE)
_TIMING = re.compile(rb"encoder;dur=([0-9.]+).*?total;dur=([0-9.]+)")


@dataclass
class Samples:
    """Milliseconds of each request; inside the router ``encoder_ms`` waiting for Triton, ``router_ms`` the rest.

    ``hits`` were answered from the cache, ``oldest`` is the largest age of such an answer in seconds.
    """

    ms: list[float] = field(default_factory=list)
    encoder_ms: list[float] = field(default_factory=list)
    router_ms: list[float] = field(default_factory=list)
    errors: int = 0
    hits: int = 0
    oldest: int = 0
    seconds: float = 0.0

    def add(self, other: Samples) -> None:
        self.ms += other.ms
        self.encoder_ms += other.encoder_ms
        self.router_ms += other.router_ms
        self.errors += other.errors
        self.hits += other.hits
        self.oldest = max(self.oldest, other.oldest)
        self.seconds += other.seconds


def at(values: list[float], quantile: float) -> float | None:
    """A quantile in [0, 1] of what was measured; ``None`` of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))] if ordered else None


def chat_bodies(prompts: Sequence[str], model: str) -> list[bytes]:
    return [
        json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]}).encode() for prompt in prompts
    ]


async def closed_loop(port: int, bodies: Sequence[bytes], connections: int, requests: int) -> Samples:
    """``requests`` in all over ``connections`` kept-alive connections, each sending as soon as it was answered."""
    samples = Samples()
    started = time.perf_counter()
    share = requests // connections
    await asyncio.gather(*(_connection(port, bodies, share, number * share, samples) for number in range(connections)))
    samples.seconds = time.perf_counter() - started
    return samples


async def _connection(port: int, bodies: Sequence[bytes], requests: int, offset: int, samples: Samples) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in range(requests):
        body = bodies[(offset + number) % len(bodies)]
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % len(body)
        )
        began = time.perf_counter()
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(answer)
        await reader.readexactly(int(length[1]) if length else 0)
        samples.ms.append((time.perf_counter() - began) * 1000)
        samples.errors += b" 200 " not in answer[:16] or b"x-vsr-degraded" in answer
        if b"x-vsr-response-path: cache" in answer:
            samples.hits += 1
            samples.oldest = max(samples.oldest, int(age[1]) if (age := _AGE.search(answer)) else 0)
        if timing := _TIMING.search(answer):
            encoder, total = float(timing[1]), float(timing[2])
            samples.encoder_ms.append(encoder)
            samples.router_ms.append(total - encoder)
    writer.close()

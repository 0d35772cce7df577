"""Load over HTTP/1.1 on raw streams, in a closed or an open loop: a fuller client costs more than what is measured.

A closed loop sends as soon as it was answered, so a slow server is asked less often and its worst moments are hardly
seen. An open loop has its times of arrival fixed before it begins, and a latency counts from the time at which a
request was to be sent, whenever a connection was free for it.

Every latency is kept. A million of them take 8 MB and quantiles are exact; a histogram of logarithmic buckets would
round them to save memory that nobody misses here.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import selectors
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

Result = TypeVar("Result")

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_AGE = re.compile(rb"\r\nage: (\d+)", re.IGNORECASE)
_ENCODER = re.compile(rb"encoder;dur=([0-9.]+)")
_TOTAL = re.compile(rb"total;dur=([0-9.]+)")
# Requests that are not answered by then have failed.
PATIENCE = 60.0
# `select` takes no higher file descriptor than 1023.
MOST_CONNECTIONS = 900


@dataclass
class Samples:
    """Milliseconds of each request; inside the router ``encoder_ms`` waiting for Triton, ``router_ms`` the rest.

    ``at`` is when each was to be sent, in seconds from the beginning, ``status_of`` its HTTP status, 0 for a
    connection that broke or an answer that never came, ``degraded_of`` whether the answer came without some signal.
    ``hits`` were answered from the cache, ``oldest`` is the largest age of such an answer in seconds.
    """

    ms: list[float] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    status_of: list[int] = field(default_factory=list)
    degraded_of: list[bool] = field(default_factory=list)
    encoder_ms: list[float] = field(default_factory=list)
    router_ms: list[float] = field(default_factory=list)
    hits: int = 0
    oldest: int = 0
    seconds: float = 0.0

    @property
    def statuses(self) -> Counter[int]:
        """The number of answers by status."""
        return Counter(self.status_of)

    @property
    def degraded(self) -> int:
        return sum(self.degraded_of)

    @property
    def errors(self) -> int:
        """Answers that are not 200, that never came, or that were given without some signal."""
        return sum(count for status, count in self.statuses.items() if status != 200) + self.degraded

    @property
    def per_second(self) -> float:
        return len(self.ms) / self.seconds if self.seconds else 0.0

    def add(self, other: Samples) -> None:
        """Append what another run has measured; its times follow on this one's."""
        self.at += [self.seconds + moment for moment in other.at]
        self.ms += other.ms
        self.status_of += other.status_of
        self.degraded_of += other.degraded_of
        self.encoder_ms += other.encoder_ms
        self.router_ms += other.router_ms
        self.hits += other.hits
        self.oldest = max(self.oldest, other.oldest)
        self.seconds += other.seconds


def at(values: Sequence[float], quantile: float) -> float | None:
    """A quantile in [0, 1] of what was measured, by nearest rank; ``None`` of nothing."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * quantile) - 1)] if ordered else None


def chat_bodies(prompts: Sequence[str], model: str) -> list[bytes]:
    return [
        json.dumps({"model": model, "messages": [{"role": "user", "content": prompt}]}).encode() for prompt in prompts
    ]


def arrivals(rate: float, count: int, *, poisson: bool = True, seed: int = 1) -> list[float]:
    """Seconds from the beginning at which ``count`` requests are to be sent, ``rate`` a second on average."""
    if not poisson:
        return [number / rate for number in range(count)]
    drawn, moment, moments = random.Random(seed), 0.0, []
    for _ in range(count):
        moments.append(moment)
        moment += drawn.expovariate(rate)
    return moments


def run_precisely(main: Awaitable[Result]) -> Result:
    """``asyncio.run`` in a loop whose timers are exact to microseconds; `epoll` rounds up to milliseconds."""
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:

        async def awaited() -> Result:
            return await main

        return runner.run(awaited())


async def closed_loop(
    port: int,
    bodies: Sequence[bytes],
    connections: int,
    requests: int,
    ahead: Callable[[int], Awaitable[object]] | None = None,
) -> Samples:
    """``requests`` in all over ``connections`` kept-alive connections, each sending as soon as it was answered.

    ``ahead`` is awaited with a request's number before it is sent, and not counted.
    """
    samples = Samples()
    loop = asyncio.get_running_loop()
    share, began = requests // connections, loop.time()

    async def one(offset: int) -> None:
        async with _Connection(port) as connection:
            await connection.open()
            for number in range(offset, offset + share):
                if ahead is not None:
                    await ahead(number)
                start = loop.time()
                await connection.ask(bodies[number % len(bodies)], start, began, samples)

    await asyncio.gather(*(one(number * share) for number in range(connections)))
    samples.seconds = loop.time() - began
    return samples


async def open_loop(port: int, bodies: Sequence[bytes], moments: Sequence[float], connections: int = 256) -> Samples:
    """A request at each of ``moments``, over so many ``connections`` at most; to wait for a free one counts."""
    if connections > MOST_CONNECTIONS:
        raise ValueError(f"at most {MOST_CONNECTIONS} connections")
    samples = Samples()

    async def serve(due: Iterator[tuple[int, float]], began: float) -> None:
        async with _Connection(port) as connection:
            async for number, intended in punctual(due, began):
                await connection.ask(bodies[number % len(bodies)], intended, began, samples)

    await paced(serve, moments, connections)
    samples.seconds = max((moment + ms / 1000 for moment, ms in zip(samples.at, samples.ms, strict=True)), default=0.0)
    return samples


async def paced(
    serve: Callable[[Iterator[tuple[int, float]], float], Awaitable[None]], moments: Sequence[float], servers: int
) -> None:
    """Run ``servers`` of ``serve``, which share what falls due: each takes the next as soon as it is free."""
    due = iter(enumerate(moments))
    began = asyncio.get_running_loop().time() + 0.05
    await asyncio.gather(*(serve(due, began) for _ in range(min(servers, len(moments)))))


async def punctual(due: Iterator[tuple[int, float]], began: float) -> AsyncIterator[tuple[int, float]]:
    """Yield number and intended time (of the loop's clock) of requests as they fall due, or at once when overdue."""
    loop = asyncio.get_running_loop()
    for number, moment in due:
        intended = began + moment
        if (wait := intended - loop.time()) > 0:
            await asyncio.sleep(wait)
        yield number, intended


class _Connection:
    """One kept-alive connection, opened when it is first needed and again when it broke."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> _Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._close()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams

    def _close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None

    async def ask(self, body: bytes, intended: float, began: float, samples: Samples) -> None:
        """Send one request and count its answer in ``samples``; its time runs from ``intended``."""
        head = b""
        try:
            async with asyncio.timeout(PATIENCE):
                head = await self._answer(body)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            self._close()
        samples.at.append(intended - began)
        samples.ms.append((asyncio.get_running_loop().time() - intended) * 1000)
        _count(head, samples)

    async def _answer(self, body: bytes) -> bytes:
        if self._streams is not None and self._streams[0].at_eof():
            self._close()  # as every client does with a connection that the server closed while it was idle
        reader, writer = self._streams or await self.open()
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%s" % (len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
        if b"\r\nconnection: close" in head.lower():
            self._close()
        return head


def _count(head: bytes, samples: Samples) -> None:
    samples.status_of.append(int(head[9:12]) if head else 0)
    samples.degraded_of.append(b"x-vsr-degraded" in head)
    if b"x-vsr-response-path: cache" in head:
        samples.hits += 1
        samples.oldest = max(samples.oldest, int(age[1]) if (age := _AGE.search(head)) else 0)
    if total := _TOTAL.search(head):
        waited = float(encoder[1]) if (encoder := _ENCODER.search(head)) else 0.0
        samples.encoder_ms.append(waited)
        samples.router_ms.append(float(total[1]) - waited)

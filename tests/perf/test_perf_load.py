"""Open loops by a clock of the test's own, quantiles, prompts."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from perf.load import Samples, arrivals, at, chat_bodies, closed_loop, open_loop, paced, punctual, run_precisely
from perf.prompts import LONG, PROMPTS, SHORT, distinct
from perf.testbed import REPOSITORY


class _Leap(selectors.SelectSelector):
    """Passes the time that the loop would sleep."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.now += timeout or 0.0
        return super().select(0)


def virtually(main: Awaitable[Any]) -> Any:
    """Run in a loop where sleeping takes no time and nothing else passes any."""
    leap = _Leap()
    loop = asyncio.SelectorEventLoop(leap)
    loop.time = lambda: leap.now  # type: ignore[method-assign]
    with asyncio.Runner(loop_factory=lambda: loop) as runner:

        async def awaited() -> Any:
            return await main

        return runner.run(awaited())


async def _served(moments: list[float], servers: int, takes: dict[int, float]) -> dict[int, tuple[float, float]]:
    """(intended, latency) of each request, with a server that takes 10 ms or what ``takes`` says."""
    times: dict[int, tuple[float, float]] = {}

    async def serve(due: Iterator[tuple[int, float]], began: float) -> None:
        async for number, intended in punctual(due, began):
            await asyncio.sleep(takes.get(number, 0.010))
            times[number] = (intended - began, asyncio.get_running_loop().time() - intended)

    await paced(serve, moments, servers)
    return times


def test_latency_counts_from_the_intended_start() -> None:
    """One server stalls for a second; whoever should have been sent meanwhile has waited for it."""
    moments = arrivals(50, 100, poisson=False)
    times = virtually(_served(moments, 1, {10: 1.0}))
    assert [times[number][0] for number in range(100)] == pytest.approx(moments)
    assert times[9][1] == pytest.approx(0.010)
    assert times[10][1] == pytest.approx(1.0)
    # Sent 20 ms after the one that stalled, done 10 ms after that was.
    assert times[11][1] == pytest.approx(0.990)
    assert times[60][1] == pytest.approx(1.0 - 50 * 0.020 + 50 * 0.010)
    # A closed loop would have seen one slow request of a hundred.
    assert sum(latency > 0.1 for _, latency in times.values()) > 50


def test_a_free_connection_takes_what_is_due() -> None:
    times = virtually(_served(arrivals(50, 100, poisson=False), 2, {10: 1.0}))
    assert sorted(latency for _, latency in times.values())[-2:] == pytest.approx([0.010, 1.0])


def test_arrivals_are_those_of_the_rate_and_always_the_same() -> None:
    drawn = arrivals(200, 20_000)
    gaps = np.diff(drawn)
    assert drawn == arrivals(200, 20_000) != arrivals(200, 20_000, seed=2)
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.03)
    # Poisson: gaps vary as much as they are long.
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert np.diff(arrivals(200, 10, poisson=False)) == pytest.approx(1 / 200)


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=300), st.floats(0, 1))
def test_a_quantile_is_a_value_that_was_measured(values: list[float], quantile: float) -> None:
    result = at(values, quantile)
    assert result in values
    assert sum(value < result for value in values) <= quantile * len(values)
    # Not `(1 - quantile) * len(values)`, which rounds: (1 - 0.8) * 5 is less than 1.
    assert sum(value > result for value in values) <= len(values) - quantile * len(values)


def test_quantiles_of_known_numbers() -> None:
    values = [float(number) for number in range(1000, 0, -1)]
    assert (at(values, 0.5), at(values, 0.999), at(values, 1.0), at([], 0.5)) == (500.0, 999.0, 1000.0, None)


def test_samples_follow_on_each_other() -> None:
    first = Samples(ms=[1.0], at=[0.5], status_of=[200], seconds=2.0)
    second = Samples(ms=[2.0], at=[0.25], status_of=[503], seconds=1.0)
    first.add(second)
    assert (first.ms, first.at, first.seconds, first.errors) == ([1.0, 2.0], [0.5, 2.25], 3.0, 1)


class _Backend:
    """Answers requests in turn as it was told; ``None`` breaks the connection."""

    def __init__(self, heads: list[bytes | None]) -> None:
        self._heads = iter(heads)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            length = 0
            while head != b"\r\n":
                if head.lower().startswith(b"content-length:"):
                    length = int(head.split(b":")[1])
                head = await reader.readline()
            await reader.readexactly(length)
            if (answer := next(self._heads)) is None:
                break
            writer.write(b"HTTP/1.1 " + answer + b"content-length: 2\r\n\r\nok")
        writer.close()


@pytest.mark.parametrize("is_open", [True, False])
def test_what_answers_say_is_counted(is_open: bool) -> None:
    timing = b"200 OK\r\nserver-timing: parse;dur=0.1, encoder;dur=2.5, total;dur=3.0\r\n"
    heads = [timing, b"200 OK\r\nx-vsr-degraded: triton\r\n", b"503 No\r\n", None,
             b"200 OK\r\nx-vsr-response-path: cache\r\nage: 7\r\nserver-timing: total;dur=0.4\r\n"]  # fmt: skip

    async def measured() -> Samples:
        server = await asyncio.start_server(_Backend(list(heads)), "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            bodies = chat_bodies(["a", "b"], "m")
            if is_open:
                return await open_loop(port, bodies, arrivals(500, 5, poisson=False), connections=1)
            return await closed_loop(port, bodies, 1, 5)

    samples = run_precisely(measured())
    assert samples.statuses == {200: 3, 503: 1, 0: 1}
    assert (samples.errors, samples.degraded, samples.hits, samples.oldest) == (3, 1, 1, 7)
    assert len(samples.ms) == len(samples.at) == 5
    assert samples.encoder_ms == [2.5, 0.0]
    assert samples.router_ms == pytest.approx([0.5, 0.4])


def test_a_connection_that_the_server_closed_while_idle_is_no_failure() -> None:
    async def measured() -> Samples:
        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(once, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await open_loop(port, chat_bodies(["a"], "m"), [0.0, 0.2, 0.4], connections=1)

    assert run_precisely(measured()).statuses == {200: 3}


def test_prompts_are_as_long_as_they_are_said_to_be() -> None:
    tokenizer = Tokenizer.from_file(str(REPOSITORY / "minilm_tokenizer" / "1" / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def lengths(prompts: list[str]) -> list[int]:
        return [len(tokenizer.encode(prompt).ids) for prompt in prompts]

    assert max(lengths(SHORT)) <= 20
    assert min(lengths(LONG)) >= 100 and max(lengths(LONG)) <= 125
    assert all(len(set(prompts)) == len(prompts) for prompts in (PROMPTS, SHORT, LONG, distinct(PROMPTS, 100)))
    assert not {*distinct(PROMPTS, 50)} & {*distinct(PROMPTS, 50, first=50)}

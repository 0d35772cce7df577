"""How long requests wait before a worker takes them up: the measure with a fake clock, and over real gRPC."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import grpc
import pytest
from serving import eventually, serving

from triton_router.exchange import Forward, Outcome, Request
from triton_router.extproc import wire
from triton_router.extproc.backlog import Backlog
from triton_router.extproc.server import SERVICE


@pytest.fixture(autouse=True, params=["native", "grpcio"])
def on_both_wires(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.WIRE", request.param)


@asynccontextmanager
async def measuring(backlog: Backlog) -> AsyncIterator[None]:
    task = asyncio.create_task(backlog.run())
    try:
        yield
    finally:
        task.cancel()


def calls_that_take(clock: list[float], *seconds: float) -> Callable[[], Awaitable[None]]:
    """Each call takes the next of ``seconds``; one more never ends."""
    remaining = list(seconds)

    async def ask() -> None:
        if not remaining:
            await asyncio.Event().wait()
        clock[0] += remaining.pop(0)

    return ask


def nobody(seconds: float) -> None:
    """Hears how long requests wait, and does nothing."""


async def test_a_pause_is_no_queue() -> None:
    clock, busy = [0.0], count()
    backlog = Backlog(calls_that_take(clock, 0.001, 3.0), lambda: next(busy), nobody, lambda: clock[0])
    async with measuring(backlog):
        await eventually(lambda: clock[0] > 3.0)
    assert backlog.seconds == 0.001


async def test_a_queue_that_stands_is_seen_before_the_second_call_is_back() -> None:
    clock, busy = [0.0], count()
    backlog = Backlog(calls_that_take(clock, 0.4), lambda: next(busy), nobody, lambda: clock[0])
    async with measuring(backlog):
        await eventually(lambda: clock[0] == 0.4)
        await asyncio.sleep(0.2)  # the second call is out
        clock[0] += 0.3
        assert 0.29 < backlog.seconds < 0.31
        clock[0] += 2.0
        assert backlog.seconds == 0.4


async def test_an_idle_worker_does_not_ask_itself() -> None:
    calls = 0

    async def ask() -> None:
        nonlocal calls
        calls += 1

    pauses: list[float] = []
    backlog = Backlog(ask, lambda: 7, pauses.append)
    async with measuring(backlog):
        await asyncio.sleep(0.35)
    assert calls == 0
    assert backlog.seconds == 0.0
    assert pauses and set(pauses) == {0.0}


async def test_a_call_that_fails_says_nothing() -> None:
    busy = count()

    async def ask() -> None:
        raise OSError

    backlog = Backlog(ask, lambda: next(busy), nobody)
    async with measuring(backlog):
        await asyncio.sleep(0.35)
    assert backlog.seconds == 0.0


def request() -> list[bytes]:
    head = wire.ProcessingRequest()
    for name, value in ((":method", b"POST"), (":path", b"/v1/chat/completions")):
        head.request_headers.headers.headers.add(key=name, raw_value=value)
    body = wire.ProcessingRequest(request_body=wire.HttpBody(body=b"{}", end_of_stream=True))
    return [head.SerializeToString(), body.SerializeToString()]


async def test_a_path_too_long_for_a_socket_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))

    async def forward(request: Request) -> Outcome:
        return Forward({}, request.body)

    async with (
        serving(forward, wire="grpcio") as server,
        grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        call = channel.stream_stream(f"/{SERVICE}/Process")()
        for message in request():
            await call.write(message)
            assert await call.read() is not grpc.aio.EOF
        call.cancel()
    assert "how long requests wait is not measured" in caplog.text


async def test_requests_are_told_how_long_others_wait() -> None:
    """Streams come faster than a busy loop serves them; when they are through, nobody waits."""
    waited: list[float] = []
    pauses: list[float] = []

    async def slow(request: Request) -> Outcome:
        waited.append(request.waited)
        time.sleep(0.05)  # CPU, as far as the event loop can tell
        return Forward({}, request.body)

    # A client with threads of its own, as a gateway is: it goes on sending while the server's loop is busy.
    async with serving(slow, report_wait=pauses.append) as server:
        channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")

        def ask() -> None:
            call = channel.stream_stream(f"/{SERVICE}/Process")(iter(request()))
            next(call), next(call)
            call.cancel()

        async def come(streams: int) -> None:
            threads = [threading.Thread(target=ask) for _ in range(streams)]
            await asyncio.to_thread(lambda: [thread.start() for thread in threads])
            await asyncio.to_thread(lambda: [thread.join() for thread in threads])

        await come(1)
        assert max(waited) < 0.05
        await come(80)
        assert max(waited) > 0.05
        await eventually(lambda: max(pauses) > 0.05)
        await eventually(lambda: pauses[-1] == 0.0)
        await come(1)
        assert waited[-1] < max(waited)
        channel.close()

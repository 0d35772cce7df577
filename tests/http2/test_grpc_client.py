"""The gRPC client, answered by grpcio's own server and by ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from triton_router.http2.client import CallFailed, GrpcChannel
from triton_router.http2.grpc import Call, GrpcServer, Status, bind

PATH = "/test.Service/Method"
Answer = Callable[[bytes], Awaitable[bytes]]


@asynccontextmanager
async def grpcio(answer: Answer, port: int = 0, **options: Any) -> AsyncIterator[int]:
    async def handle(message: bytes, context: grpc.aio.ServicerContext) -> bytes:
        try:
            return await answer(message)
        except LookupError:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100 % é")
            raise

    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), *options.items()])
    methods = {"Method": grpc.unary_unary_rpc_method_handler(handle)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", methods),))
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


@asynccontextmanager
async def own(answer: Answer, port: int = 0) -> AsyncIterator[int]:
    async def handle(call: Call) -> None:
        try:
            await call.write(await answer(await call.read() or b""))
        except LookupError:
            await call.abort(Status.NOT_FOUND, "no such thing: 100 % é")

    server, listener = GrpcServer({PATH: handle}, max_message=64 * 1024 * 1024), bind("127.0.0.1", port)
    port = listener.getsockname()[1]
    await server.listen(listener)
    try:
        yield port
    finally:
        await server.close()


@pytest.fixture(params=[grpcio, own])
def serving(request: pytest.FixtureRequest) -> Any:
    return request.param


async def reverse(message: bytes) -> bytes:
    return message[::-1]


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_384, 100_000, 3_000_000])
async def test_messages_of_any_size_come_back(serving: Any, size: int) -> None:
    async with serving(reverse) as port:
        channel = GrpcChannel(f"127.0.0.1:{port}")
        method, payload = channel.unary(PATH), bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        for _ in range(3):
            assert await method(payload, 60) == payload[::-1]
        await channel.close()


async def test_calls_share_a_connection_and_keep_apart(serving: Any) -> None:
    async with serving(reverse) as port:
        channel = GrpcChannel(f"localhost:{port}")
        method = channel.unary(PATH)
        payloads = [b"%d-" % number * 100 for number in range(200)]
        assert await asyncio.gather(*(method(payload, 60) for payload in payloads)) == [each[::-1] for each in payloads]
        await channel.close()


async def test_errors_keep_their_status_and_words(serving: Any) -> None:
    async def missing(message: bytes) -> bytes:
        raise LookupError

    async with serving(missing) as port:
        channel = GrpcChannel(f"127.0.0.1:{port}")
        with pytest.raises(CallFailed) as raised:
            await channel.unary(PATH)(b"", 60)
        assert (raised.value.code, raised.value.details) == ("NOT_FOUND", "no such thing: 100 % é")
        with pytest.raises(CallFailed) as raised:
            await channel.unary("/test.Service/Other")(b"", 60)
        assert raised.value.code == "UNIMPLEMENTED"
        await channel.close()


async def test_a_call_that_takes_too_long_ends_and_the_connection_stays(serving: Any) -> None:
    async def slow(message: bytes) -> bytes:
        await asyncio.sleep(600 if message == b"slow" else 0)
        return message

    async with serving(slow) as port:
        channel = GrpcChannel(f"127.0.0.1:{port}")
        method = channel.unary(PATH)
        late = asyncio.create_task(method(b"slow", 0.2))
        assert await method(b"quick", 60) == b"quick"
        with pytest.raises(CallFailed) as raised:
            await late
        assert raised.value.code == "DEADLINE_EXCEEDED"
        cancelled = asyncio.create_task(method(b"slow", 60))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert await method(b"quick", 60) == b"quick"
        await channel.close()


async def test_nobody_there_fails_at_once_and_a_server_that_comes_back_is_found(serving: Any) -> None:
    async with serving(reverse) as port:
        channel = GrpcChannel(f"127.0.0.1:{port}")
        method = channel.unary(PATH)
        assert await method(b"ab", 60) == b"ba"
    for _ in range(3):
        with pytest.raises(CallFailed) as raised:
            await method(b"ab", 60)
        assert raised.value.code == "UNAVAILABLE"
    async with serving(reverse, port):
        await asyncio.sleep(1.1)  # the longest pause between attempts
        assert await method(b"ab", 60) == b"ba"
        await channel.close()


async def test_a_server_that_dies_fails_the_calls_in_progress(serving: Any) -> None:
    started = asyncio.Event()

    async def hang(message: bytes) -> bytes:
        started.set()
        await asyncio.sleep(600)
        return message

    async with serving(hang) as port:
        channel = GrpcChannel(f"127.0.0.1:{port}")
        call = asyncio.create_task(channel.unary(PATH)(b"", 60))
        await started.wait()
    with pytest.raises(CallFailed) as raised:
        await call
    assert raised.value.code in ("UNAVAILABLE", "CANCELLED")


async def test_a_server_that_sends_its_clients_away_loses_no_call() -> None:
    """Triton ends connections by age, so that new replicas are found: GOAWAY, and a new connection for what follows."""
    options = {"grpc.max_connection_age_ms": 200, "grpc.max_connection_age_grace_ms": 60_000}
    async with grpcio(reverse, **options) as port:
        channel = GrpcChannel(f"127.0.0.1:{port}")
        method = channel.unary(PATH)
        until = asyncio.get_running_loop().time() + 1.5
        while asyncio.get_running_loop().time() < until:
            assert await method(b"ab", 60) == b"ba"
        await channel.close()


async def test_when_the_numbers_of_streams_are_used_up_another_connection_is_opened(
    serving: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("triton_router.http2.client.LAST_STREAM", 7)
    async with serving(reverse) as port:
        channel = GrpcChannel(f"127.0.0.1:{port}")
        method = channel.unary(PATH)
        for _ in range(20):
            assert await method(b"ab", 60) == b"ba"
        await channel.close()


async def test_what_is_no_http2_fails_the_call() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    channel = GrpcChannel(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(CallFailed) as raised:
        await channel.unary(PATH)(b"", 60)
    assert raised.value.code == "UNAVAILABLE"
    server.close()
    await channel.close()


async def test_a_call_that_is_cancelled_as_it_gets_its_connection_ends() -> None:
    opened = asyncio.Event()
    channel = GrpcChannel("127.0.0.1:9")

    async def connected() -> Any:
        await opened.wait()
        return SimpleNamespace(usable=True, call=lambda *_: (1, asyncio.get_running_loop().create_future()), cancel=id)

    channel._connected = connected  # type: ignore[method-assign]
    call = asyncio.ensure_future(channel.unary("/any")(b"", 5.0))
    await asyncio.sleep(0.01)
    opened.set()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(asyncio.shield(call), 1)

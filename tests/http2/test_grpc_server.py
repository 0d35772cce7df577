"""The gRPC server, asked by grpcio's own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from triton_router.http2.grpc import Call, GrpcServer, Handler, Status, bind

PATH = "/test.Service/Method"
LIMIT = 8 * 1024 * 1024


@asynccontextmanager
async def serving(handler: Handler, **options: int) -> AsyncIterator[tuple[GrpcServer, grpc.aio.Channel]]:
    server = GrpcServer({PATH: handler}, max_message=LIMIT, **options)
    listener = bind("127.0.0.1", 0)
    port = listener.getsockname()[1]
    await server.listen(listener)
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=limits) as channel:
        yield server, channel
    await server.close()


async def echo(call: Call) -> None:
    while (message := await call.read()) is not None:
        await call.write(message)


@pytest.mark.parametrize("size", [0, 1, 200, 16_379, 16_384, 70_000, 1_048_576, 7_000_000])
async def test_messages_of_any_size_come_back(size: int) -> None:
    async with serving(echo) as (_, channel):
        call = channel.stream_stream(PATH)()
        payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        for _ in range(3):
            await call.write(payload)
            assert await call.read() == payload
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_unary_calls_and_many_at_once() -> None:
    async with serving(echo) as (_, channel):
        method = channel.unary_unary(PATH)
        payloads = [str(number).encode() * 50 for number in range(300)]
        assert await asyncio.gather(*(method(payload) for payload in payloads)) == payloads


async def test_metadata_reaches_the_handler() -> None:
    fields: dict[str, str] = {}

    async def look(call: Call) -> None:
        fields.update(call.metadata)
        await call.write(b"")

    async with serving(look) as (_, channel):
        await channel.unary_unary(PATH)(b"", metadata=[("traceparent", "00-1-2-01"), ("x-long", "v" * 5_000)])
    assert fields["traceparent"] == "00-1-2-01" and fields["x-long"] == "v" * 5_000


@pytest.mark.parametrize("written", [0, 1, 3])
async def test_an_abort_arrives_with_its_status_and_words(written: int) -> None:
    async def abort(call: Call) -> None:
        for _ in range(written):
            await call.write(b"some")
        await call.abort(Status.UNAVAILABLE, "draining: 100 % é\n")

    async with serving(abort) as (_, channel):
        call = channel.stream_stream(PATH)()
        for _ in range(written):
            assert await call.read() == b"some"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call.read()
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        assert raised.value.details() == "draining: 100 % é\n"


async def test_a_handler_that_fails_says_nothing_of_why() -> None:
    async def fail(call: Call) -> None:
        raise ValueError("a secret")

    async with serving(fail) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(PATH)(b"")
    assert raised.value.code() is grpc.StatusCode.UNKNOWN and "secret" not in (raised.value.details() or "")


async def test_unknown_methods_and_large_messages_are_refused() -> None:
    async with serving(echo) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/test.Service/Other")(b"")
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(PATH)(b"x" * (LIMIT + 1))
        assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(PATH)(b"x" * 5_000, compression=grpc.Compression.Gzip)
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await channel.unary_unary(PATH)(b"still here") == b"still here"


async def test_a_client_that_goes_cancels_its_handler() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(call: Call) -> None:
        started.set()
        try:
            await asyncio.sleep(600)
        finally:
            cancelled.set()

    async with serving(wait) as (_, channel):
        call = channel.stream_stream(PATH)()
        await call.write(b"")
        await started.wait()
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 120)


async def test_more_streams_than_allowed_wait_or_are_refused_and_all_are_served() -> None:
    async with serving(echo, max_streams=4) as (_, channel):
        method = channel.unary_unary(PATH)
        results = await asyncio.gather(*(method(b"%d" % number) for number in range(40)))
        assert results == [b"%d" % number for number in range(40)]


async def test_leaving_serves_what_is_open_and_nothing_new() -> None:
    async with serving(echo) as (server, channel):
        call = channel.stream_stream(PATH)()
        await call.write(b"1")
        assert await call.read() == b"1"
        server.leave()
        await call.write(b"2")
        assert await call.read() == b"2"
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary(PATH)(b"")
        assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF


async def test_a_client_that_does_not_read_holds_its_own_handler_only() -> None:
    total = 0

    async def pour(call: Call) -> None:
        nonlocal total
        for _ in range(200):
            await call.write(b"x" * 1_000_000)
            total += 1

    async with serving(pour) as (_, channel):
        slow = channel.stream_stream(PATH)()
        assert len(await slow.read()) == 1_000_000
        await asyncio.sleep(0.3)
        assert total < 100
        count = 1
        while await slow.read() is not grpc.aio.EOF:
            count += 1
        assert count == 200


async def test_nothing_is_left_behind() -> None:
    async with serving(echo) as (server, channel):
        for _ in range(3):
            await asyncio.gather(*(channel.unary_unary(PATH)(b"") for _ in range(20)))
        calls = [channel.stream_stream(PATH)() for _ in range(20)]
        for call in calls:
            await call.write(b"")
            await call.read()
            call.cancel()
        while any(peer.calls for peer in server.peers):
            await asyncio.sleep(0.01)
        assert [peer._connection.open_streams for peer in server.peers] == [0]

"""The server over real gRPC, with a client that can misbehave in ways that Envoy does not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tracemalloc
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from serving import eventually, serving

from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.extproc import wire
from triton_router.extproc.budget import LARGE, Budget
from triton_router.extproc.events import BodyMode
from triton_router.extproc.messages import HEADERS_ATTRIBUTE
from triton_router.extproc.server import SERVICE, ExtProcServer

PROMPT = "my secret prompt"
MIB = 1024 * 1024


@pytest.fixture(autouse=True, params=["native", "grpcio"])
def on_both_wires(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.WIRE", request.param)


async def forward(request: Request) -> Outcome:
    return Forward({"x-selected-model": "mathé"}, request.body + b"!", {"x-vsr-selected-model": "mathé"})


def headers(*extra: tuple[str, bytes], end_of_stream: bool = False) -> wire.ProcessingRequest:
    message = wire.ProcessingRequest()
    message.request_headers.end_of_stream = end_of_stream
    for name, value in ((":method", b"POST"), (":path", b"/v1/chat/completions?k=secret"), *extra):
        message.request_headers.headers.headers.add(key=name, raw_value=value)
    message.protocol_config.request_body_mode = BodyMode.BUFFERED
    return message


def body(data: bytes) -> wire.ProcessingRequest:
    return wire.ProcessingRequest(request_body=wire.HttpBody(body=data, end_of_stream=True))


def at_once(data: bytes, text: str) -> wire.ProcessingRequest:
    """A request in one message; ``text`` are its headers as Envoy's filter writes them."""
    message = body(data)
    message.attributes["envoy.filters.http.ext_proc"][HEADERS_ATTRIBUTE] = text
    return message


ANSWER = wire.ProcessingRequest(response_headers=wire.HttpHeaders())


def values(mutation: Any) -> dict[str, bytes]:
    return {option.header.key: option.header.raw_value for option in mutation.set_headers}


class Client:
    def __init__(self, server: ExtProcServer) -> None:
        options = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", options=options)
        self.health = health_pb2_grpc.HealthStub(self.channel)

    def process(self) -> Any:
        return self.channel.stream_stream(f"/{SERVICE}/Process")()


async def exchange(call: Any, *messages: wire.ProcessingRequest | bytes) -> list[wire.ProcessingResponse]:
    answers = []
    for message in messages:
        await call.write(message if isinstance(message, bytes) else message.SerializeToString())
        answer = await call.read()
        assert answer is not grpc.aio.EOF, await call.code()
        answers.append(wire.ProcessingResponse.FromString(answer))
    return answers


async def ended(call: Any, *messages: wire.ProcessingRequest | bytes) -> tuple[grpc.StatusCode, str]:
    """Send all, say no more, and return how the server ends the stream."""
    try:
        for message in messages:
            await call.write(message if isinstance(message, bytes) else message.SerializeToString())
        await call.done_writing()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass
    async with asyncio.timeout(60):
        # The status arrives behind the answers, so those have to be read.
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
        return await call.code(), await call.details()


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving(forward) as server:
        client = Client(server)
        yield client
        await client.channel.close()


async def test_one_request(client: Client) -> None:
    call = client.process()
    spoofed = headers(("x-vsr-selected-model", b"evil"))
    asked, routed, answered = await exchange(call, spoofed, body(b"abc"), ANSWER)

    assert list(asked.request_headers.response.header_mutation.remove_headers) == ["x-vsr-selected-model"]
    for mode in (asked.mode_override, answered.mode_override):
        assert mode.request_body_mode == BodyMode.BUFFERED
        assert mode.response_header_mode == wire.SEND
        assert mode.response_body_mode == BodyMode.NONE

    common = routed.request_body.response
    assert common.body_mutation.body == b"abc!"
    assert common.clear_route_cache
    assert values(common.header_mutation) == {"x-selected-model": b"math%C3%A9", "content-length": b"4"}

    common = answered.response_headers.response
    assert values(common.header_mutation) == {"x-vsr-selected-model": b"math%C3%A9"}
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_request_in_one_message(client: Client) -> None:
    call = client.process()
    text = "4\n:method\nPOST\n:path\n/v1/chat/completions\nx-vsr-selected-model\nevil\nx-team\nB\u00c3\u00bcro"
    (routed,) = await exchange(call, at_once(b"abc", text))
    assert routed.request_body.response.body_mutation.body == b"abc!"
    assert dict(routed.dynamic_metadata["triton-router"]) == {
        "request": "x-selected-model\nmath%C3%A9\ncontent-length\n4\n",
        "remove": "x-vsr-selected-model\n",
        "response": "x-vsr-selected-model\nmath%C3%A9\n",
    }
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_headers_as_text_are_bytes() -> None:
    requests: list[Request] = []

    async def note(request: Request) -> Outcome:
        requests.append(request)
        return Forward({})

    async with serving(note) as server:
        text = "2\nx-text\nB\u00c3\u00bcro\nx-bytes\n\u00ff"
        (routed,) = await exchange(Client(server).process(), at_once(b"abc", text))
    assert requests[0].headers == {"x-text": "Büro", "x-bytes": "\\xff"}
    # Nothing to change is a decision too, and not an empty message.
    assert routed.WhichOneof("response") == "request_body"


@pytest.mark.parametrize("text", ["2\na\nb", "1\na\nb\nx-authz-user-id\nroot", "0\na", "x", "-1\n"])
async def test_headers_that_are_not_whole_abort(client: Client, text: str) -> None:
    code, _ = await ended(client.process(), at_once(b"abc", text))
    assert code is grpc.StatusCode.INTERNAL


async def test_request_without_a_body() -> None:
    async def reply(request: Request) -> Outcome:
        return Reply(418, b"{}", {"x-a": "b"})

    async with serving(reply) as server:
        call = Client(server).process()
        (answer,) = await exchange(call, headers(end_of_stream=True))
        immediate = answer.immediate_response
        assert (immediate.status.code, immediate.body) == (418, b"{}")
        assert values(immediate.headers) == {"x-a": b"b", "content-type": b"application/json"}
        assert await call.code() is grpc.StatusCode.OK
        await eventually(lambda: server.open_streams == 0)


async def test_an_answer_that_is_all_there_is_to_see_is_sent_back(client: Client) -> None:
    refused = wire.ProcessingRequest(response_headers=wire.HttpHeaders())
    refused.protocol_config.response_body_mode = BodyMode.FULL_DUPLEX_STREAMED
    text = wire.ProcessingRequest(response_body=wire.HttpBody(body=b"RBAC: access denied", end_of_stream=True))
    call = client.process()
    _, sent_back = await exchange(call, refused, text)
    streamed = sent_back.response_body.response.body_mutation.streamed_response
    assert (streamed.body, streamed.end_of_stream) == (b"RBAC: access denied", True)
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


class Watching:
    """An observer that wants a response and reads nothing of it."""

    watches = True
    shortens = False

    def on_sent(self) -> None: ...

    def on_headers(self, status: int, headers: Mapping[str, str]) -> bool:
        return False

    def on_body(self, piece: bytes, *, last: bool = False) -> bytes | None:
        return None

    def on_complete(self) -> None: ...

    def on_end(self) -> None: ...


@pytest.mark.parametrize("in_one", [False, True])
async def test_a_stream_that_waits_for_its_answer_holds_nothing_of_its_body(in_one: bool) -> None:
    async def watched(request: Request) -> Outcome:
        return Forward({"x-selected-model": "a"}, request.body + b"!", observer=Watching())

    large = b"x" * 4_000_000
    messages = [at_once(large, "1\n:path\n/v1/chat/completions")] if in_one else [headers(), body(large)]
    async with serving(watched) as server:
        call = Client(server).process()
        tracemalloc.start()
        try:
            routed = await exchange(call, *messages)
            del routed, messages, large
            # The client has its message before the server's write returns.
            await eventually(lambda: tracemalloc.get_traced_memory()[0] < 1_000_000)
        finally:
            tracemalloc.stop()
        await exchange(call, ANSWER)


async def test_emptied_body_is_taken_off() -> None:
    async def empty(request: Request) -> Outcome:
        return Forward({}, b"")

    async with serving(empty) as server:
        _, routed = await exchange(Client(server).process(), headers(), body(b"abc"))
        assert routed.request_body.response.body_mutation.clear_body
        assert values(routed.request_body.response.header_mutation) == {"content-length": b"0"}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [b"\xff\xff"],
        [wire.ProcessingRequest()],
        [headers()],
        [body(b"{}")],
        [headers(), headers()],
        [headers(), body(b"{}"), body(b"{}")],
    ],
)
async def test_nothing_unfinished_or_out_of_order_ends_cleanly(client: Client, messages: list[Any]) -> None:
    code, _ = await ended(client.process(), *messages)
    assert code is grpc.StatusCode.INTERNAL


async def test_header_bytes_that_are_no_text() -> None:
    requests: list[Request] = []

    async def route(request: Request) -> Outcome:
        requests.append(request)
        return Reply(200, b"")

    async with serving(route) as server:
        await exchange(
            Client(server).process(), headers(("x-user", b"a\xff"), ("x-name", "é".encode()), end_of_stream=True)
        )
    assert requests[0].headers == {"x-user": "a\\xff", "x-name": "é"}


async def _raises(request: Request) -> Outcome:
    raise ValueError(f"cannot read {request.body!r}")


async def _cancelled_inside(request: Request) -> Outcome:
    raise asyncio.CancelledError


@pytest.mark.parametrize("route", [_raises, _cancelled_inside])
async def test_routing_failure_is_a_500_and_one_line_without_the_prompt(
    route: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="triton_router")
    async with serving(route) as server:
        message = headers(("x-request-id", b"r-1"))
        call = Client(server).process()
        _, answer = await exchange(call, message, body(PROMPT.encode()))
        assert answer.immediate_response.status.code == 500
        assert b'"router_error"' in answer.immediate_response.body
        assert await call.code() is grpc.StatusCode.OK
        await eventually(lambda: server.open_streams == 0)
    (record,) = [record for record in caplog.records if record.name.startswith("triton_router")]
    line = record.getMessage()
    assert "r-1" in line and "/v1/chat/completions" in line and __name__ in line
    assert "secret" not in line and record.exc_info is None


async def test_nonsense_from_the_pipeline_aborts(caplog: pytest.LogCaptureFixture) -> None:
    async def nonsense(request: Request) -> Any:
        return Forward({"x": 1})  # type: ignore[dict-item]

    async with serving(nonsense) as server:
        code, _ = await ended(Client(server).process(), headers(), body(b"{}"))
        assert code is grpc.StatusCode.INTERNAL
        await eventually(lambda: server.open_streams == 0)
    assert "AttributeError" in caplog.text


async def test_many_bad_streams_and_failures_leave_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(_raises) as server:
        client = Client(server)
        for _ in range(20):
            await ended(client.process(), headers())
            await ended(client.process(), headers(), body(b"{}"))
            await ended(client.process(), b"\xff nonsense")
        await eventually(lambda: server.open_streams == 0)
    lines = [record.getMessage() for record in caplog.records if record.name == "triton_router.extproc.processor"]
    assert 1 <= len(lines) <= 3, lines


async def test_bodies_beyond_the_budget_are_429_and_the_others_are_served() -> None:
    release = asyncio.Event()

    async def slow(request: Request) -> Outcome:
        await release.wait()
        return Forward({})

    async with serving(slow, max_body_bytes=1000, budget=Budget(2000)) as server:
        client = Client(server)
        held = [client.process() for _ in range(2)]
        for call in held:
            await exchange(call, headers(("content-length", b"1000")))
            await call.write(body(b"x" * 1000).SerializeToString())
        await eventually(lambda: server.open_streams == 2)
        (refusal,) = await exchange(client.process(), headers(("content-length", b"1000")))
        assert refusal.immediate_response.status.code == 429
        assert values(refusal.immediate_response.headers)["retry-after"] == b"1"
        release.set()
        for call in held:
            assert (await call.read()) is not grpc.aio.EOF
        (reply,) = await exchange(client.process(), headers(("content-length", b"1000")))
        assert reply.WhichOneof("response") == "request_headers", "what was forwarded is held no more"


async def test_a_large_body_counts_until_its_backend_responds() -> None:
    size = LARGE
    declared = headers(("content-length", str(size).encode()))

    async with serving(forward, max_body_bytes=size, budget=Budget(2 * size)) as server:
        client = Client(server)
        first = client.process()
        await exchange(first, declared, body(b"x" * size))
        (refusal,) = await exchange(client.process(), declared)
        assert refusal.immediate_response.status.code == 429
        (reply,) = await exchange(client.process(), headers(("content-length", b"1000")))
        assert reply.WhichOneof("response") == "request_headers", "others have room"
        await exchange(first, ANSWER)
        (reply,) = await exchange(client.process(), declared)
        assert reply.WhichOneof("response") == "request_headers"


@pytest.mark.parametrize("in_one", [True, False])
async def test_bodies_that_come_at_once_are_refused_before_they_are_held(in_one: bool) -> None:
    count, size = 64, 2 * MIB
    data = b"x" * size
    text = "2\n:method\nPOST\n:path\n/v1/chat/completions"
    message = (at_once(data, text) if in_one else body(data)).SerializeToString()
    release = asyncio.Event()

    async def slow(request: Request) -> Outcome:
        await release.wait()
        return Forward({})

    async def ask(client: Client) -> str:
        call = client.process()
        if not in_one:
            await exchange(call, headers())
        # The answer may be here before all of the message has left.
        writing = asyncio.create_task(call.write(message))
        answer = wire.ProcessingResponse.FromString(await call.read())
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        kind = str(answer.WhichOneof("response"))
        return str(answer.immediate_response.status.code) if kind == "immediate_response" else kind

    async with serving(slow, max_body_bytes=size, budget=Budget(4 * size), wire="native") as server:
        client = Client(server)
        tracemalloc.start()
        asking = [asyncio.create_task(ask(client)) for _ in range(count)]
        await eventually(lambda: sum(each.done() for each in asking) >= count - 4)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        release.set()
        answers = await asyncio.gather(*asking)
        await client.channel.close()
    assert answers.count("429") >= count - 4 and answers.count("request_body") >= 1, answers
    # Each body that is admitted is here as a message, then as its parts.
    assert peak < 8 * 4 * size, f"{peak / MIB:.0f} MiB"


async def test_client_gone_cancels_routing() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Outcome:
        started.set()
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        raise AssertionError

    async with serving(slow) as server:
        call = Client(server).process()
        await exchange(call, headers())
        await call.write(body(b"{}").SerializeToString())
        await asyncio.wait_for(started.wait(), 60)
        assert server.open_streams == 1
        call.cancel()
        await asyncio.wait_for(cancelled.wait(), 60)
        await eventually(lambda: server.open_streams == 0)


async def test_one_limit_for_bodies_and_messages() -> None:
    limit = 6 * 1024 * 1024  # beyond gRPC's own default
    async with serving(forward, max_body_bytes=limit) as server:
        client = Client(server)
        _, routed = await exchange(client.process(), headers(), body(b"x" * limit))
        assert len(routed.request_body.response.body_mutation.body) == limit + 1
        _, refused = await exchange(client.process(), headers(), body(b"x" * (limit + 1)))
        assert refused.immediate_response.status.code == 413


async def test_two_servers_cannot_share_a_port(client: Client) -> None:
    async with serving(forward) as server:
        with pytest.raises(RuntimeError):
            await ExtProcServer(forward, port=server.port).start()


# --- health and draining -------------------------------------------------------------------------------------------

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_serving_then_not(service: str) -> None:
    async with serving(forward) as server:
        client = Client(server)
        request = health_pb2.HealthCheckRequest(service=service)
        assert (await client.health.Check(request)).status == SERVING
        watch = client.health.Watch(request)
        assert (await watch.read()).status == SERVING
        async with asyncio.timeout(60):  # a watcher does not hold up the end
            await server.drain(600)
        assert (await watch.read()).status == NOT_SERVING


async def test_drain_waits_for_open_streams_and_takes_no_new_ones() -> None:
    go = asyncio.Event()

    async def when_told(request: Request) -> Outcome:
        await go.wait()
        return Forward({})

    async with serving(when_told) as server:
        client = Client(server)
        call = client.process()
        await exchange(call, headers())
        draining = asyncio.create_task(server.drain(600))
        await asyncio.sleep(0.1)
        code, _ = await ended(client.process(), headers())
        assert code is grpc.StatusCode.UNAVAILABLE
        assert not draining.done()
        go.set()
        routed, answered = await exchange(call, body(b"{}"), ANSWER)
        assert routed.HasField("request_body") and answered.HasField("response_headers")
        assert await call.code() is grpc.StatusCode.OK
        await asyncio.wait_for(draining, 60)


async def test_drain_cuts_what_takes_longer_and_never_cleanly() -> None:
    async def never(request: Request) -> Outcome:
        await asyncio.sleep(600)
        raise AssertionError

    async with serving(never) as server:
        call = Client(server).process()
        await exchange(call, headers())
        await call.write(body(b"{}").SerializeToString())
        async with asyncio.timeout(60):
            await server.drain(0.2)
            assert await call.code() is not grpc.StatusCode.OK
        await eventually(lambda: server.open_streams == 0)

"""Bodies that a worker holds at once: a budget of bytes, 429 beyond it, and all of it given back."""

from __future__ import annotations

import pytest
from serving import eventually

from triton_router import heap
from triton_router.exchange import Request
from triton_router.extproc.budget import LARGE, Budget, Share
from triton_router.extproc.commands import ContinueHeaders, ImmediateReply, Route, Wait
from triton_router.extproc.events import BodyMode, RequestBody, RequestHeaders
from triton_router.extproc.phases import Exchange


def head(length: int | None = None, mode: BodyMode = BodyMode.BUFFERED) -> RequestHeaders:
    declared = (("content-length", str(length)),) if length is not None else ()
    return RequestHeaders(((":method", "POST"), (":path", "/v1/messages"), *declared), False, body_mode=mode)


def refusals() -> tuple[Budget, list[int]]:
    refused: list[int] = []
    return Budget(1000, lambda: refused.append(1)), refused


def test_a_declared_body_is_refused_before_it_is_sent() -> None:
    held, refused = refusals()
    exchanges = [Exchange(max_body_bytes=1000, admit=Share(held).grow) for _ in range(3)]
    commands = [exchange.receive(head(400)) for exchange in exchanges]
    assert [type(command) for command in commands] == [ContinueHeaders, ContinueHeaders, ImmediateReply]
    reply = commands[2]
    assert isinstance(reply, ImmediateReply) and reply.status == 429 and ("retry-after", "1") in reply.headers
    assert b'"rate_limit_error"' in reply.body and refused == [1]


def test_an_undeclared_body_is_counted_as_it_comes() -> None:
    held, _ = refusals()
    first, second = (Exchange(max_body_bytes=1000, admit=Share(held).grow) for _ in range(2))
    assert isinstance(first.receive(head()), ContinueHeaders) and isinstance(second.receive(head()), ContinueHeaders)
    assert isinstance(first.receive(RequestBody(b"x" * 600, end_of_stream=True)), Route)
    refusal = second.receive(RequestBody(b"x" * 600, end_of_stream=True))
    assert isinstance(refusal, ImmediateReply) and refusal.status == 429
    duplex = Exchange(max_body_bytes=1000, admit=Share(held).grow)
    assert isinstance(duplex.receive(head(mode=BodyMode.FULL_DUPLEX_STREAMED)), Wait)
    assert isinstance(duplex.receive(RequestBody(b"x" * 300, False)), Wait)
    refusal = duplex.receive(RequestBody(b"x" * 300, False))
    assert isinstance(refusal, ImmediateReply) and refusal.status == 429


async def test_what_was_held_is_given_back_and_memory_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    trims: list[int] = []
    monkeypatch.setattr(heap, "trim", lambda: trims.append(1))
    held = Budget(64 * 1024 * 1024)
    shares = [Share(held) for _ in range(4)]
    assert all(share.grow(14 * 1024 * 1024) for share in shares)
    assert not Share(held).grow(LARGE)
    for share in shares:
        share.release()
        share.release()
    assert Share(held).grow(56 * 1024 * 1024)
    await eventually(lambda: trims == [1])  # once, when they are gone


def test_the_c_library_takes_the_calls() -> None:
    heap.return_large_blocks()
    heap.trim()


def test_a_body_is_routed_as_before_where_there_is_room() -> None:
    exchange = Exchange(max_body_bytes=1000)
    exchange.receive(head(3))
    route = exchange.receive(RequestBody(b"abc", end_of_stream=True))
    assert isinstance(route, Route) and route.request == Request(
        "POST", "/v1/messages", {"content-length": "3"}, b"abc"
    )


def test_large_bodies_leave_room_for_others() -> None:
    held = Budget(8 * LARGE)
    large = [Share(held) for _ in range(8)]
    assert [share.grow(LARGE) for share in large] == [True] * 7 + [False]
    other = Share(held)
    assert other.grow(LARGE - 1)
    assert not Share(held).grow(2)
    other.forward()
    assert Share(held).grow(2), "what is not large is held until it is forwarded"
    large[0].forward()
    assert not Share(held).grow(LARGE)
    large[0].release()
    assert Share(held).grow(LARGE - 2)


@pytest.mark.parametrize("largest", [1, 6, 7, 8, LARGE, 10 * 1024 * 1024 + 1])
def test_one_body_of_the_largest_size_always_fits(largest: int) -> None:
    assert Share(Budget.for_bodies(1, largest)).grow(largest)

"""The live view: what happens, as it happens, without prompts, and for those alone who read."""

from __future__ import annotations

import asyncio
import json
import math
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from router_alone import router_alone
from starlette.applications import Starlette
from starlette.requests import Request as StarletteRequest
from starlette.routing import Route

from triton_router.api import live as module
from triton_router.api import responses, server
from triton_router.api.history import History, quantile
from triton_router.api.live import LiveFeed
from triton_router.api.responses import live_response
from triton_router.config import loads
from triton_router.config.services import ApiSettings
from triton_router.exchange import Request
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.live import CAPACITY, LiveLog
from triton_router.record import Record
from triton_router.telemetry import Metrics

BUNDLE = Path(__file__).parents[1] / "model_repository" / "bundle.json"
CONFIG = """
providers: {models: [{name: plain, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}
routing:
  decisions: [{name: all, modelRefs: [{model: plain}]}]
global: {inference: {endpoint: "127.0.0.1:9"}}
"""


def test_requests_since_a_number() -> None:
    log = LiveLog()
    assert log.since(0) == {"last": 0, "requests": [], "skipped": 0}
    for number in range(5):
        log.note(Record(str(number), path="passthrough"))
    assert len(log.since(3)["requests"]) == 2
    assert log.since(5)["requests"] == []
    # The process was started again since.
    assert len(log.since(1000)["requests"]) == 5


@given(st.integers(0, 3 * CAPACITY), st.integers(0, 3 * CAPACITY))
def test_no_request_is_lost_uncounted(before: int, after: int) -> None:
    log = LiveLog()
    for _ in range(before):
        log.note(Record("g"))
    mark = log.since(0)["last"]
    for _ in range(after):
        log.note(Record("g"))
    answer = log.since(mark)
    assert len(answer["requests"]) + answer["skipped"] == after
    assert len(answer["requests"]) <= CAPACITY


async def test_all_kinds_of_requests_are_seen_and_no_prompt() -> None:
    generations = Generations(loads(CONFIG), *load_bundle(BUNDLE), Metrics())
    for model in ("MoM", "plain", "nobody"):
        body = {"model": model, "messages": [{"role": "user", "content": "my secret prompt"}]}
        await generations.current.route(Request("POST", "/v1/chat/completions", {}, json.dumps(body).encode()))
    await asyncio.sleep(0.05)
    requests = (await generations.live(0))["requests"]
    assert sorted(each["path"] for each in requests) == ["error", "passthrough", "routed"]
    routed = next(each for each in requests if each["path"] == "routed")
    assert (routed["decision"], routed["model"], routed["status"]) == ("all", "plain", None)
    assert routed["ms"] > 0
    assert next(each for each in requests if each["path"] == "error")["status"] == 404
    assert "secret" not in json.dumps(requests)


# --- the last hour --------------------------------------------------------------------------------------------------


def test_a_span_has_what_was_counted_in_it() -> None:
    metrics, now = Metrics(), [0.0]
    history = History(metrics.registry, lambda: now[0])
    metrics.requests.labels("all", "plain", "routed", "").inc(7)
    history.look()
    assert not history.spans
    now[0] = 10.0
    metrics.requests.labels("all", "plain", "routed", "").inc(20)
    metrics.degraded.labels("triton").inc(3)
    metrics.tokens.labels("plain", "prompt").inc(5)
    metrics.tokens.labels("other", "prompt").inc(5)
    for _ in range(100):
        metrics.stage_seconds.labels("total").observe(0.0009)
    metrics.in_flight.inc(4)
    history.look()
    (span,) = history.spans
    assert span["requests"] == [["all", "plain", "routed", 20]]
    assert (span["degraded"], span["tokens"], span["seconds"]) == ({"triton": 3}, {"prompt": 10}, 10.0)
    assert 0.5 <= span["stages"]["total"]["p50"] <= span["stages"]["total"]["p95"] <= 1.0
    assert history.gauges["in_flight"] == 4
    history.look()
    assert history.spans[-1]["requests"] == []


def test_what_is_counted_before_anything_else_was_is_in_its_span() -> None:
    metrics, now = Metrics(), [0.0]
    history = History(metrics.registry, lambda: now[0])
    history.look()
    metrics.requests.labels("all", "plain", "routed", "").inc(2)
    history.look()
    assert [span["requests"] for span in history.spans] == [[["all", "plain", "routed", 2]]]


def test_each_trunk_has_gauges_of_its_own() -> None:
    generations = Generations(loads(CONFIG), *load_bundle(BUNDLE), metrics := Metrics())
    history = History(metrics.registry)
    history.look()
    names = [encoder.trunk.name for encoder in generations.encoders.watched]
    assert sorted(history.trunks) == sorted(names)
    assert all(gauges == {"limit": 64, "in_flight": 0} for gauges in history.trunks.values())


def test_the_hour_is_bounded() -> None:
    history = History(Metrics().registry)
    for _ in range(500):
        history.spans.append({})
    assert len(history.spans) == 360


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_true_one(seconds: list[float], share: float) -> None:
    bounds = [0.001, 0.01, 0.1, 1.0, 10.0, math.inf]
    result = quantile({bound: float(sum(value <= bound for value in seconds)) for bound in bounds}, share)
    true = sorted(seconds)[max(math.ceil(share * len(seconds) - 1e-9) - 1, 0)]
    upper = next(bound for bound in bounds if true <= bound)
    lower = max((bound for bound in bounds if bound < true), default=0.0)
    assert result is not None
    assert lower * 1000 - 0.001 <= result <= min(upper, 10.0) * 1000 + 0.001


def test_no_observation_has_no_quantile() -> None:
    assert quantile({}, 0.5) is None


# --- views ---------------------------------------------------------------------------------------------------------


class View:
    """A client of the view, without a network. It reads while ``reading`` is set."""

    def __init__(self, feed: LiveFeed) -> None:
        self.pieces: list[bytes] = []
        self.reading, self.gone = asyncio.Event(), asyncio.Event()
        self.reading.set()
        self.task = asyncio.create_task(live_response(feed)({"type": "http"}, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        await self.reading.wait()
        self.pieces.append(message.get("body", b""))

    def events(self) -> list[tuple[str, Any]]:
        written = b"".join(self.pieces).decode().split("\n\n")[:-1]
        lines = [event.split("\n", 1) for event in written]
        return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in lines]

    async def sees(self, name: str) -> Any:
        async with asyncio.timeout(20):
            while not (events := [data for event, data in self.events() if event == name]):
                await asyncio.sleep(0.005)
        return events[-1]


@pytest.fixture
async def log(monkeypatch: pytest.MonkeyPatch) -> LiveLog:
    monkeypatch.setattr(module, "TICK", 0.01)
    return LiveLog()


@asynccontextmanager
async def feed_of(*logs: LiveLog) -> AsyncIterator[LiveFeed]:
    def source(log: LiveLog) -> module.Source:
        async def since(number: int) -> dict[str, Any]:
            return log.since(number)

        return since

    feed = LiveFeed(lambda: [source(log) for log in logs], History(Metrics().registry))
    yield feed


async def test_a_view_sees_the_requests_of_all_processes_from_when_it_opens(log: LiveLog) -> None:
    other = LiveLog()
    log.note(Record("g", path="cache"))
    async with feed_of(log, other) as feed:
        view = View(feed)
        assert await view.sees("history") == []
        await view.sees("requests")
        log.note(Record("g", path="routed"))
        other.note(Record("g", path="passthrough"))
        async with asyncio.timeout(20):
            while len(seen(view)) < 2:
                await asyncio.sleep(0.005)
        assert sorted(seen(view)) == ["passthrough", "routed"]
        view.gone.set()
        await view.task


def seen(view: View) -> list[str]:
    return [each["path"] for name, data in view.events() if name == "requests" for each in data["requests"]]


async def test_a_view_that_does_not_read_is_dropped_and_others_go_on(
    log: LiveLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responses, "READ_WITHIN", 0.2)
    async with feed_of(log) as feed:
        reader, sleeper = View(feed), View(feed)
        await sleeper.sees("history")
        sleeper.reading.clear()
        async with asyncio.timeout(20):
            await sleeper.task
        before = len(reader.events())
        async with asyncio.timeout(20):
            while len(reader.events()) <= before:
                await asyncio.sleep(0.005)
        reader.gone.set()
        await reader.task


async def test_the_hour_is_written_once_for_all_views_of_a_span(log: LiveLog) -> None:
    async with feed_of(log) as feed:
        feed.history.spans.append({"time": 1.0})
        first, second = feed.open(), feed.open()
        event = first.get_nowait()
        assert second.get_nowait() is event
        feed.history.spans.append({"time": 2.0})
        third = feed.open()
        assert b'"time":2.0' in (third.get_nowait() or b"")
        for view in (first, second, third):
            feed.leave(view)


async def test_views_end_where_processes_cannot_be_asked_and_may_come_again(log: LiveLog) -> None:
    fails = [True]

    async def source(number: int) -> dict[str, Any]:
        if fails[0]:
            raise RuntimeError("no answer")
        return log.since(number)

    feed = LiveFeed(lambda: [source], History(Metrics().registry))
    async with asyncio.timeout(20):
        await View(feed).task
    fails[0] = False
    view = View(feed)
    await view.sees("requests")
    view.gone.set()
    await view.task


async def test_the_connection_of_a_stream_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "READ_WITHIN", 1.0)
    ended = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes]:
        try:
            while True:
                yield b"x" * 65536
                await asyncio.sleep(0)
        finally:
            ended.set()

    async def stream(request: StarletteRequest) -> responses.ImpatientStream:
        return responses.ImpatientStream(endless())

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with server.serving(ApiSettings(port=port), Starlette(routes=[Route("/", stream)])), asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nhost: router\r\n\r\n")
        await ended.wait()
        # What the kernel had taken is still read; then comes no end in order, but the connection's.
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(1 << 34)
        writer.close()


def test_open_views_do_not_keep_the_service_from_ending(tmp_path: Path) -> None:
    with ExitStack() as views, router_alone(tmp_path, {**yaml.safe_load(CONFIG), "global": {}}) as url:
        for _ in range(3):
            view = views.enter_context(socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))))
            view.sendall(b"GET /api/v1/live HTTP/1.1\r\nhost: router\r\n\r\n")
            assert b"text/event-stream" in view.recv(200)
    # The router has ended before the views on this side.


async def test_nobody_is_asked_while_nobody_watches(log: LiveLog) -> None:
    calls = []

    async def source(number: int) -> dict[str, Any]:
        calls.append(number)
        return log.since(number)

    feed = LiveFeed(lambda: [source], History(Metrics().registry))
    await asyncio.sleep(0.05)
    assert calls == []
    view = View(feed)
    await view.sees("requests")
    view.gone.set()
    await view.task
    await asyncio.sleep(0.05)
    count = len(calls)
    await asyncio.sleep(0.05)
    assert len(calls) == count


async def test_views_are_bounded(log: LiveLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_VIEWS", 2)
    async with feed_of(log) as feed:
        views = [View(feed) for _ in range(2)]
        for view in views:
            await view.sees("history")
        assert feed.full
        for view in views:
            view.gone.set()
            await view.task
        assert not feed.full

"""Decision records: bounded in number and in time."""

from __future__ import annotations

import json

import pytest

from triton_router.config import loads
from triton_router.config.services import ReplaySettings
from triton_router.exchange import Request
from triton_router.pipeline import Pipeline
from triton_router.replay import PAGE, ReplayLog
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics


def test_a_record_is_found_until_it_is_too_old() -> None:
    now = [0.0]
    records = ReplayLog(ReplaySettings(ttl_seconds=10), lambda: now[0])
    name = records.keep({"decision": "a"})
    assert records.find(name) == {"id": name, "decision": "a"}
    assert records.find("another") is None
    now[0] = 10.0
    assert records.find(name) is None


def test_the_oldest_make_room() -> None:
    records = ReplayLog(ReplaySettings(max_records=3), lambda: 0.0)
    names = [records.keep({"n": number}) for number in range(5)]
    assert [records.find(name) is not None for name in names] == [False, False, True, True, True]
    assert len(set(names)) == 5


@pytest.mark.parametrize(("prompt", "recorded"), [("a secret", False), ("hello", True)])
async def test_a_decision_may_stay_out_of_the_records(prompt: str, recorded: bool) -> None:
    loaded = loads(
        """
        providers: {models: [{name: m, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}
        routing:
          signals: {keywords: [{name: k, keywords: [secret]}]}
          decisions:
            - name: quiet
              priority: 2
              rules: {type: keyword, name: k}
              plugins: [{type: router_replay, configuration: {enabled: false}}]
            - {name: rest, plugins: [{type: router_replay}]}
        global: {services: {router_replay: {enabled: true}}}
        """
    )
    settings = loaded.config.global_.services.router_replay
    pipeline = Pipeline(compile_runtime(loaded), None, TopicParameters(), Metrics(), replay=ReplayLog(settings))
    body = json.dumps({"model": "MoM", "messages": [{"role": "user", "content": prompt}]}).encode()
    _, record = await pipeline.handle(Request("POST", "/v1/chat/completions", {}, body))
    assert (record.replay_id is not None) is recorded


def request(body: bytes, **headers: str) -> Request:
    return Request("POST", "/v1/chat/completions?x=1", {name.replace("_", "-"): v for name, v in headers.items()}, body)


def test_a_request_is_kept_with_the_headers_that_are_named() -> None:
    records = ReplayLog(ReplaySettings(), lambda: 0.0)
    original = request(b'{"model":"MoM"}', authorization="Bearer secret", x_session_id="7")
    name = records.keep({"decision": "a"}, original, ("x-session-id", "x-tenant-id"))
    assert records.find(name) == {
        "id": name,
        "decision": "a",
        "sent": {"path": "/v1/chat/completions", "headers": {"x-session-id": "7"}, "request": '{"model":"MoM"}'},
    }


def test_requests_are_bounded_one_by_one_and_together() -> None:
    records = ReplayLog(ReplaySettings(max_request_bytes=10, max_total_bytes=25), lambda: 0.0)
    large = records.keep({"n": 0}, request(b"x" * 11))
    assert records.find(large) == {"id": large, "n": 0}
    names = [records.keep({"n": number}, request(b"x" * 10)) for number in range(1, 4)]
    # The third would be 30 bytes, so the oldest of them had to go, and what was older still.
    assert [records.find(name) is not None for name in names] == [False, True, True]
    assert [record["n"] for record in records.quoted(10)] == [2, 3]
    assert [record["n"] for record in records.quoted(1)] == [3]


def test_records_without_prompt_or_request_are_not_quoted() -> None:
    now = [0.0]
    records = ReplayLog(ReplaySettings(ttl_seconds=10), lambda: now[0])
    records.keep({"n": 1})
    records.keep({"n": 2, "prompt": "hello"})
    assert [record["n"] for record in records.quoted(10)] == [2]
    assert records.count_quoted() == 1
    now[0] = 10.0
    assert (records.quoted(10), records.count_quoted()) == ([], 0)


def test_records_are_read_in_pages_from_the_newest_on() -> None:
    records = ReplayLog(ReplaySettings(max_records=20, max_request_bytes=PAGE), lambda: 0.0)
    large = PAGE // 3
    for number in range(25):
        records.keep({"n": number}, request(b"x" * (large if number % 2 else 2 * PAGE)))
    pages, before = [], None
    while page := records.quoted(100, before):
        pages.append([record["n"] for record in page])
        before = page[0]["id"]
    # Larger than a request may be, every second one is kept without its body.
    assert [number for page in reversed(pages) for number in page] == [number for number in range(5, 25) if number % 2]
    assert max(map(len, pages)) <= 3
    assert records.count_quoted() == 10
    assert records.quoted(100, "gone") == []

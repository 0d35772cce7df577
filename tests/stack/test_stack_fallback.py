"""Two models with two replicas each, behind the real Envoy: whatever the first cannot answer, the second does."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from chain import Chain
from local_stack import chat

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("illness", ["500", "502", "504", "close", "reset", "context"])
def test_whatever_the_first_cannot_answer_the_second_does(start_chain: Callable[..., Chain], illness: str) -> None:
    chain = start_chain(illness)
    assert chain.many(60) == {(200, "first->second"): 60}
    assert sum(each.requests for each in chain.second) == 60


@pytest.mark.parametrize("illness", ["429", "503"])
def test_one_that_asks_to_be_left_alone_is(start_chain: Callable[..., Chain], illness: str) -> None:
    chain = start_chain(illness)
    assert chain.ask().headers["x-vsr-fallback"] == "first->second"
    count = sum(each.requests for each in chain.first)
    assert chain.many(50) == {(200, None): 50}
    assert sum(each.requests for each in chain.first) == count


def test_a_model_that_is_down(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("")
    assert chain.many(50) == {(200, None): 50}
    for each in chain.first:
        each.illness = "close"  # of connections that are there
        each.close()
    assert chain.many(60) == {(200, "first->second"): 60}
    time.sleep(1)  # Envoy knows of no healthy endpoint now, and asks none
    assert chain.many(60) == {(200, "first->second"): 60}


def test_a_model_that_hangs_is_given_up_in_time(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("hang", fallback={"total_timeout": 60, "per_attempt_timeout": 2})
    assert chain.many(8) == {(200, "first->second"): 8}
    assert sum(each.requests for each in chain.second) == 8


def test_the_time_is_bounded_where_all_hang(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("hang", fallback={"total_timeout": 2})
    for each in chain.second:
        each.illness = "hang"
    # Nothing else would end it: the backends never answer.
    assert chain.ask().status_code == 504


def test_a_stream_that_breaks_is_passed_on_as_it_broke(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("midway")
    received = b""
    with (
        pytest.raises(httpx.RemoteProtocolError),
        chain.gateway.client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as response,
    ):
        assert response.status_code == 200
        for piece in response.iter_raw():
            received += piece
    assert received == b"hello"
    assert sum(each.requests for each in chain.first) == 1
    assert sum(each.requests for each in chain.second) == 0


def test_requests_that_are_wrong_are_the_clients_to_mend(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("400")
    response = chain.ask()
    assert (response.status_code, response.content, response.headers.get("x-vsr-fallback")) == (400, b"{}", None)
    assert sum(each.requests for each in chain.second) == 0


def test_a_redirect_of_a_backend_is_not_followed(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("307", replicas=1)
    response = chain.ask()
    assert (response.status_code, response.headers.get("location")) == (307, None)
    assert (chain.first[0].requests, chain.second[0].requests) == (1, 0)


HOSTS = ("a_b.example", "[::1]:99", "EXAMPLE:0", "a" * 300, "1.2.3", "a%20b", "a?b", "a:", "a:99999")
OTHERS = {"x-forwarded-proto": "https", "transfer-encoding": "chunked", "expect": "100-continue"}


@pytest.mark.parametrize(
    "headers", [{"host": host} for host in HOSTS] + [{name: value} for name, value in OTHERS.items()]
)
def test_whatever_the_client_sends_besides(start_chain: Callable[..., Chain], headers: dict[str, str]) -> None:
    chain = start_chain("500", replicas=1)
    content = json.dumps(chat()).encode()
    body = iter([content]) if "transfer-encoding" in headers else content
    response = chain.gateway.client.post("/v1/chat/completions?a=b%2Fc", content=body, headers=headers)
    if response.status_code != 400:  # what Envoy refuses from the beginning
        assert (response.status_code, response.headers.get("x-vsr-fallback")) == (200, "first->second")
        assert chain.second[0].last is not None and chain.second[0].last[0] == "/v1/chat/completions?a=b%2Fc"


@pytest.mark.parametrize("mode", ["STREAMED", "FULL_DUPLEX_STREAMED"])
def test_other_ways_of_handing_bodies_over(start_chain: Callable[..., Chain], mode: str) -> None:
    chain = start_chain("500", replicas=1, envoy={"request_body_mode": mode, "response_body_mode": mode})
    assert chain.many(10) == {(200, "first->second"): 10}


def test_the_last_failure_is_the_clients_to_see(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("500")
    for each in chain.second:
        each.illness = "429"
    response = chain.ask()
    assert (response.status_code, response.headers["retry-after"]) == (429, "5")
    assert response.headers["x-vsr-fallback"] == "first->second"


PATHS = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "stream": True},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi", "tools": [{"type": "function", "name": "f"}]},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
}


@pytest.mark.parametrize("path", PATHS)
def test_each_gets_the_request_at_its_own_path_with_its_own_key(
    start_chain: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("FIRST_KEY", "sesame")
    ref = {"base_url": "http://ENDPOINT/first/v1", "api_key_env": "FIRST_KEY"}
    chain = start_chain("500", replicas=1, first=ref)
    body = {"model": "auto", **PATHS[path]}
    response = chain.gateway.client.post(path, json=body, headers={"authorization": "Bearer client"})
    assert (response.status_code, response.headers["x-vsr-fallback"]) == (200, "first->second")
    requests = [replica.last for replica in (*chain.first, *chain.second) if replica.last is not None]
    assert [(target, headers["authorization"]) for target, headers, _ in requests] == [
        (path.replace("/v1", "/first/v1"), "Bearer sesame"),
        (path, "Bearer client"),
    ]
    # That API has no place for reasoning.
    thinking = {} if path == "/v1/completions" else {"chat_template_kwargs": {"enable_thinking": True}}
    assert requests[0][2] == body | {"model": "first", **thinking}
    assert requests[1][2] == body | {"model": "second"}


@pytest.mark.parametrize(("size", "answered"), [(6000, (200, "first->second")), (9000, (500, None))])
def test_what_has_to_be_kept_may_be_long(
    start_chain: Callable[..., Chain], size: int, answered: tuple[int, str]
) -> None:
    """Beyond what Envoy keeps of a header a request has one candidate."""

    def change(text: dict[str, Any]) -> None:
        text["routing"]["decisions"][0]["modelRefs"][0]["persona"] = {"system_prompt": "Be brief."}

    chain = start_chain("500", replicas=1, change=change)
    messages = [{"role": "system", "content": "x" * size}, {"role": "user", "content": "hi"}]
    response = chain.ask(messages=messages)
    assert (response.status_code, response.headers.get("x-vsr-fallback")) == answered
    assert response.headers.get("x-vsr-no-fallback") == (None if answered[1] else "size")
    last = (chain.second if answered[1] else chain.first)[0].last
    assert last is not None
    assert last[2]["messages"][0]["content"] == ("x" * size if answered[1] else "Be brief.")


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_request_of_any_size(start_chain: Callable[..., Chain], size: int) -> None:
    chain = start_chain("500", replicas=1)
    response = chain.ask(user="x" * size)
    assert (response.status_code, response.headers["x-vsr-fallback"]) == (200, "first->second")
    assert chain.second[0].last is not None
    path, headers, body = chain.second[0].last
    assert (path, body["model"], len(body["user"])) == ("/v1/chat/completions", "second", size)
    assert not [name for name in headers if name.startswith("x-vsr-")]


def test_clients_cannot_say_what_was_tried(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("", replicas=1)
    attempt = json.dumps({"name": "first", "failures": [], "decision": "d"})
    headers = {"x-vsr-attempt": attempt, "x-vsr-failure": "429 600", "x-vsr-falls-back": "1"}
    response = chain.gateway.client.post("/v1/chat/completions", json=chat(), headers=headers)
    assert (response.status_code, response.headers.get("x-vsr-fallback")) == (200, None)
    assert chain.first[0].requests == 1
    assert chain.ask().headers["x-vsr-selected-model"] == "first"


def test_a_model_that_fails_is_left_out_after_a_while(start_chain: Callable[..., Chain]) -> None:
    chain = start_chain("500", fallback={"circuit_breaker": {"consecutive_failures": 3, "cooldown_period": 5}})
    assert Counter(chain.ask().headers.get("x-vsr-fallback") for _ in range(20)) == {"first->second": 3, None: 17}
    for each in chain.first:
        each.illness = ""
    time.sleep(5.1)
    assert [chain.ask().headers["x-vsr-selected-model"] for _ in range(3)] == ["first"] * 3

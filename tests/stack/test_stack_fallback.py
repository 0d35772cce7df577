"""Two models with two replicas each, behind the real Envoy: whatever the first cannot answer, the second does."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from local_stack import Gateway, chat, free_port
from replica import Replica
from test_stack_gateway import running

from triton_router.config import load

pytestmark = pytest.mark.e2e

CHECKS = {"health_check_interval": 0.2, "health_check_timeout": 0.5, "base_ejection_time": 3600}
# Breakers that never open, so that each request meets the failure.
PATIENT = {"circuit_breaker": {"consecutive_failures": 10_000}}


class Stack:
    """A gateway before the models `first` and `second`, and their replicas."""

    def __init__(self, gateway: Gateway, first: list[Replica], second: list[Replica]) -> None:
        self.gateway, self.first, self.second = gateway, first, second

    def ask(self, **fields: Any) -> httpx.Response:
        return self.gateway.client.post("/v1/chat/completions", json=chat(**fields))

    def many(self, count: int, **fields: Any) -> Counter[tuple[int, str | None]]:
        """Status and fallback of so many requests, eight at a time."""
        with ThreadPoolExecutor(8) as pool:
            responses = list(pool.map(lambda _: self.ask(**fields), range(count)))
        return Counter((each.status_code, each.headers.get("x-vsr-fallback")) for each in responses)


@pytest.fixture
def start(
    stack: ExitStack, tmp_path: Path, start_envoy: Callable[..., Gateway], start_replica: Callable[..., Replica]
) -> Callable[..., Stack]:
    def start(illness: str, replicas: int = 2, fallback: dict[str, Any] | None = None, **settings: Any) -> Stack:
        first = [start_replica(illness) for _ in range(replicas)]
        second = [start_replica() for _ in range(replicas)]
        refs = {name: settings.get(name, {"endpoint": "ENDPOINT"}) for name in ("first", "second")}
        models = [
            {
                "name": name,
                "backend_refs": [
                    {key: value.replace("ENDPOINT", each.endpoint) for key, value in refs[name].items()}
                    for each in backends
                ],
                "reliability": CHECKS,
            }
            for name, backends in {"first": first, "second": second}.items()
        ]
        models[0]["reasoning_family"] = "qwen"
        families = {"qwen": {"type": "chat_template_kwargs", "parameter": "enable_thinking"}}
        document = {
            "providers": {"models": models, "defaults": {"reasoning_families": families}},
            "routing": {
                "modelCards": [
                    {"name": "first", "context_window_size": "8K"},
                    {"name": "second", "context_window_size": "32K"},
                ],
                "decisions": [
                    {
                        "name": "d",
                        "modelRefs": [
                            {"model": "first", "score": 2, "use_reasoning": True},
                            {"model": "second", "score": 1},
                        ],
                    }
                ],
                "fallback": PATIENT | (fallback or {}),
            },
            "global": {
                "services": {
                    "envoy": {"port": free_port(), "admin_port": free_port(), "concurrency": 1}
                    | settings.get("envoy", {})
                }
            },
        }
        file = tmp_path / "router.yaml"
        file.write_text(yaml.safe_dump(document))
        port = stack.enter_context(running("router_of_file.py", str(file)))
        return Stack(start_envoy(load(file).config, port), first, second)

    return start


@pytest.mark.parametrize("illness", ["500", "502", "504", "close", "reset", "context"])
def test_whatever_the_first_cannot_answer_the_second_does(start: Callable[..., Stack], illness: str) -> None:
    stack = start(illness)
    assert stack.many(60) == {(200, "first->second"): 60}
    assert sum(each.requests for each in stack.second) == 60


@pytest.mark.parametrize("illness", ["429", "503"])
def test_one_that_asks_to_be_left_alone_is(start: Callable[..., Stack], illness: str) -> None:
    stack = start(illness)
    assert stack.ask().headers["x-vsr-fallback"] == "first->second"
    count = sum(each.requests for each in stack.first)
    assert stack.many(50) == {(200, None): 50}
    assert sum(each.requests for each in stack.first) == count


def test_a_model_that_is_down(start: Callable[..., Stack]) -> None:
    stack = start("")
    assert stack.many(50) == {(200, None): 50}
    for each in stack.first:
        each.illness = "close"  # of connections that are there
        each.close()
    assert stack.many(60) == {(200, "first->second"): 60}
    time.sleep(1)  # Envoy knows of no healthy endpoint now, and asks none
    assert stack.many(60) == {(200, "first->second"): 60}


def test_a_model_that_hangs_is_given_up_in_time(start: Callable[..., Stack]) -> None:
    stack = start("hang", fallback={"total_timeout": 3, "per_attempt_timeout": 0.5})
    began = time.monotonic()
    assert stack.many(16) == {(200, "first->second"): 16}
    assert time.monotonic() - began < 30
    assert sum(each.requests for each in stack.second) == 16


def test_the_time_is_bounded_where_all_hang(start: Callable[..., Stack]) -> None:
    stack = start("hang", fallback={"total_timeout": 2})
    for each in stack.second:
        each.illness = "hang"
    began = time.monotonic()
    response = stack.ask()
    assert response.status_code == 504
    # Attempts end a little after their time, but not by half of it.
    assert time.monotonic() - began < 3


def test_a_stream_that_breaks_is_passed_on_as_it_broke(start: Callable[..., Stack]) -> None:
    stack = start("midway")
    received = b""
    with (
        pytest.raises(httpx.RemoteProtocolError),
        stack.gateway.client.stream("POST", "/v1/chat/completions", json=chat(stream=True)) as response,
    ):
        assert response.status_code == 200
        for piece in response.iter_raw():
            received += piece
    assert received == b"hello"
    assert sum(each.requests for each in stack.first) == 1
    assert sum(each.requests for each in stack.second) == 0


def test_requests_that_are_wrong_are_the_clients_to_mend(start: Callable[..., Stack]) -> None:
    stack = start("400")
    response = stack.ask()
    assert (response.status_code, response.content, response.headers.get("x-vsr-fallback")) == (400, b"{}", None)
    assert sum(each.requests for each in stack.second) == 0


def test_a_redirect_of_a_backend_is_not_followed(start: Callable[..., Stack]) -> None:
    stack = start("307", replicas=1)
    response = stack.ask()
    assert (response.status_code, response.headers.get("location")) == (307, None)
    assert (stack.first[0].requests, stack.second[0].requests) == (1, 0)


HOSTS = ("a_b.example", "[::1]:99", "EXAMPLE:0", "a" * 300, "1.2.3", "a%20b", "a?b", "a:", "a:99999")
OTHERS = {"x-forwarded-proto": "https", "transfer-encoding": "chunked", "expect": "100-continue"}


@pytest.mark.parametrize(
    "headers", [{"host": host} for host in HOSTS] + [{name: value} for name, value in OTHERS.items()]
)
def test_whatever_the_client_sends_besides(start: Callable[..., Stack], headers: dict[str, str]) -> None:
    stack = start("500", replicas=1)
    content = json.dumps(chat()).encode()
    body = iter([content]) if "transfer-encoding" in headers else content
    response = stack.gateway.client.post("/v1/chat/completions?a=b%2Fc", content=body, headers=headers)
    if response.status_code != 400:  # what Envoy refuses from the beginning
        assert (response.status_code, response.headers.get("x-vsr-fallback")) == (200, "first->second")
        assert stack.second[0].last is not None and stack.second[0].last[0] == "/v1/chat/completions?a=b%2Fc"


@pytest.mark.parametrize("mode", ["STREAMED", "FULL_DUPLEX_STREAMED"])
def test_other_ways_of_handing_bodies_over(start: Callable[..., Stack], mode: str) -> None:
    stack = start("500", replicas=1, envoy={"request_body_mode": mode, "response_body_mode": mode})
    assert stack.many(10) == {(200, "first->second"): 10}


def test_the_last_failure_is_the_clients_to_see(start: Callable[..., Stack]) -> None:
    stack = start("500")
    for each in stack.second:
        each.illness = "429"
    response = stack.ask()
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
    start: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setenv("FIRST_KEY", "sesame")
    ref = {"base_url": "http://ENDPOINT/first/v1", "api_key_env": "FIRST_KEY"}
    stack = start("500", replicas=1, first=ref)
    body = {"model": "auto", **PATHS[path]}
    response = stack.gateway.client.post(path, json=body, headers={"authorization": "Bearer client"})
    assert (response.status_code, response.headers["x-vsr-fallback"]) == (200, "first->second")
    requests = [replica.last for replica in (*stack.first, *stack.second) if replica.last is not None]
    assert [(target, headers["authorization"]) for target, headers, _ in requests] == [
        (path.replace("/v1", "/first/v1"), "Bearer sesame"),
        (path, "Bearer client"),
    ]
    # That API has no place for reasoning.
    thinking = {} if path == "/v1/completions" else {"chat_template_kwargs": {"enable_thinking": True}}
    assert requests[0][2] == body | {"model": "first", **thinking}
    assert requests[1][2] == body | {"model": "second"}


@pytest.mark.parametrize(("size", "answered"), [(6000, (200, "first->second")), (9000, (500, None))])
def test_what_has_to_be_kept_may_be_long(start: Callable[..., Stack], size: int, answered: tuple[int, str]) -> None:
    """Beyond what Envoy keeps of a header a request has one candidate."""
    stack = start("500", replicas=1)
    response = stack.ask(chat_template_kwargs={"x": "y" * size})
    assert (response.status_code, response.headers.get("x-vsr-fallback")) == answered


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_request_of_any_size(start: Callable[..., Stack], size: int) -> None:
    stack = start("500", replicas=1)
    response = stack.ask(user="x" * size)
    assert (response.status_code, response.headers["x-vsr-fallback"]) == (200, "first->second")
    assert stack.second[0].last is not None
    path, headers, body = stack.second[0].last
    assert (path, body["model"], len(body["user"])) == ("/v1/chat/completions", "second", size)
    assert not [name for name in headers if name.startswith("x-vsr-")]


def test_clients_cannot_say_what_was_tried(start: Callable[..., Stack]) -> None:
    stack = start("", replicas=1)
    attempt = json.dumps({"name": "first", "failures": [], "decision": "d"})
    headers = {"x-vsr-attempt": attempt, "x-vsr-failure": "429 600", "x-vsr-falls-back": "1"}
    response = stack.gateway.client.post("/v1/chat/completions", json=chat(), headers=headers)
    assert (response.status_code, response.headers.get("x-vsr-fallback")) == (200, None)
    assert stack.first[0].requests == 1
    assert stack.ask().headers["x-vsr-selected-model"] == "first"


def test_a_model_that_fails_is_left_out_after_a_while(start: Callable[..., Stack]) -> None:
    stack = start("500", fallback={"circuit_breaker": {"consecutive_failures": 3, "cooldown_period": 1}})
    assert Counter(stack.ask().headers.get("x-vsr-fallback") for _ in range(20)) == {"first->second": 3, None: 17}
    for each in stack.first:
        each.illness = ""
    time.sleep(1.1)
    assert [stack.ask().headers["x-vsr-selected-model"] for _ in range(3)] == ["first"] * 3

"""A request in one ext_proc message, in a real Envoy: what the router sees, and a worker that dies with it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from local_stack import Gateway, chat, free_port, is_openai_error, make_config, running, wait_for

from triton_router.config import Config

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def extproc_port() -> Iterator[int]:
    with running("router_by_name.py", "4000000") as port:
        yield port


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int) -> Gateway:
    return start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port)


def messages(gateway: Gateway) -> int:
    return gateway.stat("http.gateway.ext_proc.stream_msgs_sent")


def test_a_request_costs_one_message(gateway: Gateway) -> None:
    before = messages(gateway)
    assert gateway.client.post(CHAT, json=chat("m")).json()["model"] == "m"
    assert messages(gateway) == before + 1
    assert gateway.client.post(CHAT, content=iter([json.dumps(chat("m")).encode()])).json()["model"] == "m"
    assert gateway.client.post(CHAT, content=b"").status_code == 400
    assert messages(gateway) == before + 3


@pytest.mark.parametrize("response_body_mode", ["NONE", "STREAMED"])
def test_the_router_sees_the_same_headers_in_one_message_and_in_three(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int, response_body_mode: str
) -> None:
    gateway = start_gateway(
        {"m": [start_backend("m")]}, extproc_port=extproc_port, response_body_mode=response_body_mode
    )
    headers = [
        (b"x-team", b"a"), (b"x-team", b"b"), (b"x-empty", b""), (b"x-long", b"z" * 8000), (b"x-text", "Büro".encode()),
        (b"x-bytes", b"B\xfcro \xff"), (b"authorization", b"Bearer secret"), (b"x-vsr-selected-model", b"spoofed"),
        (b"x-colon", b"a: b"), (b"x-vsr-debug", b"1"), (b"x-request-id", b"mine"),
        (b"content-type", b"application/json"),
    ]  # fmt: skip
    body = json.dumps(chat("show")).encode()
    fields = gateway.client.post(CHAT, content=body, headers=headers).json()
    assert fields == gateway.client.post(CHAT, content=iter([body]), headers=headers).json()
    own = {name: value for name, value in fields.items() if name.startswith("x-") and name != "x-forwarded-proto"}
    assert own == {
        "x-team": "a, b", "x-empty": "", "x-long": "z" * 8000, "x-text": "Büro", "x-bytes": "B\\xfcro \\xff",
        "x-colon": "a: b", "x-vsr-debug": "1", "x-request-id": "mine",
    }  # fmt: skip
    assert (fields["authorization"], fields["content-length"]) == ("Bearer secret", str(len(body)))


@pytest.mark.parametrize("kind", ["short", "long", "large", "no length"])
def test_in_flight_requests_of_a_worker_that_is_killed_go_to_the_other(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int, kind: str
) -> None:
    size = {"long": 90_000, "large": 1_500_000}.get(kind, 10)
    body = json.dumps(chat("slow", user="x" * size)).encode()
    with running("router_by_name.py", "4000000") as victim:
        models = {"slow": [start_backend("slow")]}
        gateway = start_gateway(models, extproc_port=extproc_port, second_worker=victim, max_body_bytes=4_000_000)

        def ask(_: int) -> int:
            content = iter([body]) if kind == "no length" else body
            return gateway.client.post(CHAT, content=content).status_code

        started = "http.gateway.ext_proc.streams_started"
        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, number) for number in range(8)]
            wait_for(lambda: gateway.stat(started) == 8, "all requests are with the workers")
            os.kill(_listener(victim), signal.SIGKILL)
            assert [each.result() for each in asking] == [200] * 8
        # Envoy repeats only short calls by itself.
        repeated = (
            "http.fallback.downstream_rq_3xx" if kind in ("long", "large") else "cluster.extproc.upstream_rq_retry"
        )
        assert gateway.stat(repeated) > 0


@pytest.mark.parametrize("script", ["delay=3", "slow-stream;chunks=30;seconds=3"])
def test_a_response_that_a_killed_worker_was_reading_reaches_the_client(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], script: str
) -> None:
    with running("router_by_name.py") as victim:
        gateway = start_gateway({"watched": [start_backend("watched")]}, extproc_port=victim)
        answers = _answers_while_killed(gateway, victim, script)
    end = "data: [DONE]\n\n" if "stream" in script else "}"
    assert [(each.status_code, each.text.endswith(end)) for each in answers] == [(200, True)] * 4


def test_a_response_that_must_not_pass_unread_does_not(
    start_envoy: Callable[..., Gateway], start_backend: Callable[..., str]
) -> None:
    listening = {"port": free_port(), "admin_port": free_port(), "concurrency": 1}
    config = make_config({"watched": [start_backend("watched")]}, services={"envoy": listening})
    guard = {"name": "quiet", "plugins": [{"type": "response_pii"}]}
    document = config.model_dump(by_alias=True, exclude_unset=True) | {"routing": {"decisions": [guard]}}
    config = Config.model_validate(document)
    with running("router_by_name.py") as victim:
        answers = _answers_while_killed(start_envoy(config, victim), victim, "delay=3")
    assert [(each.status_code, is_openai_error(each)) for each in answers] == [(503, True)] * 4


@pytest.mark.parametrize("kind", ["declared", "no length"])
def test_a_large_request_is_served_where_responses_are_guarded(
    start_envoy: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int, kind: str
) -> None:
    listening = {"port": free_port(), "admin_port": free_port(), "concurrency": 1}
    services, router = {"envoy": listening}, {"max_body_bytes": 4_000_000}
    config = make_config({"m": [start_backend("m")]}, services=services, router=router)
    guard = {"name": "quiet", "plugins": [{"type": "response_pii"}]}
    document = config.model_dump(by_alias=True, exclude_unset=True) | {"routing": {"decisions": [guard]}}
    body = json.dumps(chat("m", user="x" * 2_000_000)).encode()
    gateway = start_envoy(Config.model_validate(document), extproc_port)
    assert gateway.client.post(CHAT, content=iter([body]) if kind == "no length" else body).status_code == 200


def _answers_while_killed(gateway: Gateway, worker: int, script: str) -> list[httpx.Response]:
    """Four responses whose only worker is killed while the backend has the requests."""
    body = chat("watched", stream="stream" in script)

    def ask(_: int) -> httpx.Response:
        return gateway.client.post(CHAT, json=body, headers={"x-demo-script": script})

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, number) for number in range(4)]
        active = "cluster.model/watched.upstream_rq_active"
        wait_for(lambda: gateway.stat(active) == 4, "all requests are with the backend")
        os.kill(_listener(worker), signal.SIGKILL)
        return [each.result() for each in asking]


def _listener(port: int) -> int:
    """The process that was started for ``port``."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(port).encode() in words and any(word.endswith(b"router_by_name.py") for word in words):
            return int(entry.name)
    raise AssertionError(f"nobody was started for {port}")

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
from local_stack import Gateway, chat, running, wait_for

pytestmark = pytest.mark.e2e

CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def extproc_port() -> Iterator[int]:
    with running("router_by_name.py") as port:
        yield port


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int) -> Gateway:
    return start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port)


def messages(gateway: Gateway) -> int:
    return gateway.stat("http.gateway.ext_proc.stream_msgs_sent")


def chunked(gateway: Gateway, model: str, headers: list[tuple[bytes, bytes]]) -> httpx.Response:
    return gateway.client.post(CHAT, content=iter([json.dumps(chat(model)).encode()]), headers=headers)


def test_a_body_of_known_length_costs_one_message_and_others_more(gateway: Gateway) -> None:
    before = messages(gateway)
    assert gateway.client.post(CHAT, json=chat("m")).json()["model"] == "m"
    assert messages(gateway) == before + 1
    assert chunked(gateway, "m", []).json()["model"] == "m"
    assert gateway.client.post(CHAT, content=b"").status_code == 400
    assert messages(gateway) == before + 1 + 3 + 1


def test_the_router_sees_the_same_headers_in_one_message_and_in_three(gateway: Gateway) -> None:
    headers = [
        (b"x-team", b"a"), (b"x-team", b"b"), (b"x-empty", b""), (b"x-long", b"z" * 8000), (b"x-text", "Büro".encode()),
        (b"x-bytes", b"B\xfcro \xff"), (b"authorization", b"Bearer secret"), (b"x-vsr-selected-model", b"spoofed"),
        (b"x-colon", b"a: b"), (b"x-vsr-debug", b"1"), (b"x-request-id", b"mine"),
    ]  # fmt: skip
    once = gateway.client.post(CHAT, json=chat("show"), headers=[*headers, (b"content-type", b"application/json")])
    thrice = chunked(gateway, "show", [*headers, (b"content-type", b"application/json")])
    fields = once.json()
    assert fields.pop("content-length") == str(len(json.dumps(chat("show"), separators=(",", ":"))))
    assert fields == thrice.json()
    assert (fields["x-team"], fields["x-text"], fields["x-bytes"]) == ("a, b", "Büro", "B\\xfcro \\xff")
    assert "x-vsr-selected-model" not in fields and fields["x-vsr-debug"] == "1"


def test_in_flight_requests_of_a_worker_that_is_killed_go_to_the_other(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int
) -> None:
    with running("router_by_name.py") as victim:
        gateway = start_gateway({"slow": [start_backend("slow")]}, extproc_port=extproc_port, second_worker=victim)

        def ask(_: int) -> int:
            return gateway.client.post(CHAT, json=chat("slow")).status_code

        started = "http.gateway.ext_proc.streams_started"
        with ThreadPoolExecutor(8) as pool:
            asking = [pool.submit(ask, number) for number in range(8)]
            wait_for(lambda: gateway.stat(started) == 8, "all requests are with the workers")
            os.kill(_listener(victim), signal.SIGKILL)
            assert [each.result() for each in asking] == [200] * 8
        assert gateway.stat("cluster.extproc.upstream_rq_retry") > 0


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

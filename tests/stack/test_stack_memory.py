"""Many large bodies at once, on the real Envoy and router: both hold a bounded part of them, and give it back."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml
from local_stack import PATIENCE, REPOSITORY, Gateway, chat, free_port, is_openai_error, wait_for
from replica import Replica

from triton_router.config import load

pytestmark = pytest.mark.e2e

MIB = 1024 * 1024
BODIES, SIZE = 64, 10 * MIB - 64 * 1024
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\nconnection: close\r\n"


class Site(NamedTuple):
    """A gateway, and the process of its router."""

    gateway: Gateway
    router: int


@pytest.fixture
def start_site(stack: ExitStack, tmp_path: Path, start_envoy: Callable[..., Gateway]) -> Callable[..., Site]:
    """Start `serve` and its Envoy; ``settings`` are those of ``global.router``, ``envoy`` those of its Envoy."""

    def start(endpoint: str, envoy: dict[str, Any] | None = None, wire: str = "native", **settings: Any) -> Site:
        port = free_port()
        document = {
            "providers": {"models": [{"name": "m", "backend_refs": [{"endpoint": endpoint}],
                                      "reliability": {"health_check_path": None}}]},
            "global": {
                "router": {"adapter_discovery": {"enabled": False}, **settings},
                # Long: a busy machine is no part of this.
                "inference": {"endpoint": f"127.0.0.1:{free_port()}", "deadline_ms": 60_000},
                "services": {
                    "api": {"port": free_port()},
                    "observability": {"metrics": {"enabled": False}},
                    "extproc": {"port": port, "wire": wire,
                                "overload": {"shed_after_ms": 600_000, "refuse_after_ms": 600_000}},
                    "envoy": {"port": free_port(), "admin_port": free_port(), "concurrency": 1, **(envoy or {})},
                },
            },
        }  # fmt: skip
        file = tmp_path / "router.yaml"
        file.write_text(yaml.safe_dump(document))
        log = stack.enter_context((tmp_path / "router.log").open("wb"))
        command = [sys.executable, "-m", "triton_router.cli", "serve", "--config", str(file)]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=REPOSITORY)
        stack.callback(process.wait, PATIENCE)
        stack.callback(process.terminate)
        gateway = start_envoy(load(file).config, port)
        wait_for(lambda: small(gateway) == 200, "a first response")
        return Site(gateway, process.pid)

    return start


def small(gateway: Gateway) -> int:
    return gateway.client.post("/v1/chat/completions", json=chat("m")).status_code


def memory(process: int, what: str = "VmRSS") -> int:
    """What a process holds, or held at most (``VmHWM``), in bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(what))


def large() -> bytes:
    body = json.dumps(chat("MoM")).encode()
    return body.replace(b"hello", b"word " * ((SIZE - len(body)) // 5))


def framed(body: bytes, *, declared: bool) -> bytes:
    if declared:
        return CHAT + b"content-length: %d\r\n\r\n" % len(body)
    return CHAT + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % len(body)


def connected(gateway: Gateway) -> socket.socket:
    address = gateway.client.base_url.host, gateway.client.base_url.port
    return socket.create_connection(address, timeout=PATIENCE)


def post(gateway: Gateway, head: bytes, body: bytes, end: bytes = b"") -> httpx.Response:
    """Send a request as bytes. The response may come while it is being sent; a status of 600 stands for none."""
    with connected(gateway) as connection:
        with contextlib.suppress(ConnectionError):
            for piece in (head, body, end):
                connection.sendall(piece)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                answer += piece
    head, _, content = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    if headers.pop("transfer-encoding", None):
        content = content.partition(b"\r\n")[2].removesuffix(b"\r\n0\r\n\r\n")
    return httpx.Response(int(first.split(" ")[1]) if first else 600, headers=headers, content=content)


def at_once(gateway: Gateway, *, declared: bool) -> tuple[list[httpx.Response], Counter[int]]:
    """All responses to the large bodies, and the statuses of small requests meanwhile."""
    body, done, beside = large(), threading.Event(), Counter[int]()

    def keep_asking() -> None:
        while not done.wait(0.02):
            beside[small(gateway)] += 1

    with ThreadPoolExecutor(BODIES) as pool, ThreadPoolExecutor(1) as other:
        asking = other.submit(keep_asking)
        end = b"" if declared else b"\r\n0\r\n\r\n"
        sent = [pool.submit(post, gateway, framed(body, declared=declared), body, end) for _ in range(BODIES)]
        responses = [each.result() for each in sent]
        done.set()
        asking.result()
    return responses, beside


@pytest.mark.parametrize("wire", ["native", "grpcio"])
def test_many_large_bodies_are_refused_by_their_headers_and_small_requests_are_served(
    start_site: Callable[..., Site], start_backend: Callable[..., str], wire: str
) -> None:
    site = start_site(start_backend("m"), wire=wire, max_bytes_in_flight=32 * MIB)
    before = memory(site.gateway.pid), memory(site.router)
    responses, beside = at_once(site.gateway, declared=True)
    statuses = Counter(each.status_code for each in responses)
    assert set(statuses) <= {200, 429} and statuses[200] and statuses[429], statuses
    refused = [each for each in responses if each.status_code == 429]
    assert all(is_openai_error(each) and each.headers["retry-after"] == "1" for each in refused)
    assert set(beside) == {200}, beside
    # An Envoy that waits for the router reads on: all bodies are 640 MiB. It would hold them on both of its sides.
    assert memory(site.gateway.pid, "VmHWM") - before[0] < 1.5 * BODIES * SIZE
    assert memory(site.router, "VmHWM") - before[1] < 320 * MIB
    # An idle connection to the backend holds the slices of its last large body until it is closed, after a minute.
    wait_for(lambda: memory(site.gateway.pid) - before[0] < 160 * MIB, "Envoy gives memory back")
    wait_for(lambda: memory(site.router) - before[1] < 48 * MIB, "the router gives memory back")


def test_large_bodies_count_until_their_backend_responds(
    start_site: Callable[..., Site], start_replica: Callable[..., Replica]
) -> None:
    backend = start_replica()
    site = start_site(backend.endpoint, max_bytes_in_flight=16 * MIB)
    body, before = large(), backend.requests
    backend.illness = "hang"
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(post, site.gateway, framed(body, declared=True), body)
        wait_for(lambda: backend.requests > before, "the backend has the first one")
        assert post(site.gateway, framed(body, declared=True), body).status_code == 429
        backend.illness = ""
        assert small(site.gateway) == 200
        # Envoy may find it once more before it is gone.
        backend.close()
        assert held.result().status_code in (200, 502, 503)


def test_beyond_its_bound_envoy_takes_no_new_requests_and_afterwards_it_does(
    start_site: Callable[..., Site], start_replica: Callable[..., Replica]
) -> None:
    envoy = {"max_heap_bytes": 64 * MIB, "request_timeout_seconds": 600}
    gateway = start_site(start_replica().endpoint, envoy).gateway
    with ExitStack() as uploads:

        def refused_after_one_more() -> bool:
            # Envoy waits for the end.
            uploads.enter_context(connected(gateway)).sendall(framed(b"x" * 990_000, declared=True) + b"x" * 980_000)
            return small(gateway) == 503

        wait_for(refused_after_one_more, "Envoy has enough")
        assert is_openai_error(gateway.client.post("/v1/chat/completions", json=chat("m")))
    wait_for(lambda: small(gateway) == 200, "Envoy takes requests again")


@pytest.mark.parametrize("coding", ["chunked", "gzip"])
def test_bodies_without_a_length_are_so_many_and_their_places_are_given_back(
    start_site: Callable[..., Site], start_backend: Callable[..., str], coding: str
) -> None:
    # Half of that is room for twelve.
    envoy = {"max_heap_bytes": 256 * MIB, "request_timeout_seconds": 600}
    site = start_site(start_backend("m"), envoy, max_bytes_in_flight=16 * MIB)
    gateway, before = site.gateway, memory(site.gateway.pid)
    head, piece = {
        "chunked": (b"transfer-encoding: chunked", b"2\r\n{}\r\n"),
        "gzip": (b"content-encoding: gzip\r\ncontent-length: 99", gzip.compress(b"{")[:10]),
    }[coding]
    short = json.dumps(chat("m")).encode()
    whole = CHAT + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(short), short)
    for _ in range(3):
        with ExitStack() as uploads:
            for _ in range(12):
                uploads.enter_context(connected(gateway)).sendall(CHAT + head + b"\r\n\r\n" + piece)
            wait_for(lambda: post(gateway, whole, b"").status_code == 429, "all places are taken")
            refused = post(gateway, whole, b"")
            assert is_openai_error(refused) and refused.headers["retry-after"] == "1"
            assert small(gateway) == 200
            assert gateway.client.get("/v1/models").status_code == 200
        wait_for(lambda: post(gateway, whole, b"").status_code == 200, "places are free again")
    responses, beside = at_once(gateway, declared=False)
    statuses = Counter(each.status_code for each in responses)
    # What connections read ahead may reach the bound.
    assert set(statuses) <= {200, 429, 503} and statuses[429], statuses
    assert set(beside) <= {200, 503} and beside[200], beside
    assert memory(gateway.pid, "VmHWM") - before < BODIES * SIZE
    wait_for(lambda: small(gateway) == 200, "all is well again")


def test_uploads_that_are_given_up_give_their_room_back(
    start_site: Callable[..., Site], start_backend: Callable[..., str]
) -> None:
    gateway = start_site(start_backend("m"), max_bytes_in_flight=16 * MIB).gateway
    body = large()
    for _ in range(20):
        with connected(gateway) as connection:
            connection.sendall(framed(body, declared=True) + body[:2_000_000])
    wait_for(lambda: post(gateway, framed(body, declared=True), body).status_code == 200, "there is room again")

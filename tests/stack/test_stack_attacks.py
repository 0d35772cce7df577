"""Tricks with paths, headers and framing against the real Envoy: a backend gets what the router has decided on."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from local_stack import PATIENCE, Gateway, chat, free_port, running

from triton_router.stack import envoy

pytestmark = pytest.mark.e2e

BODY = json.dumps(chat("m")).encode()


@dataclass
class Record:
    """What a backend has received."""

    endpoint: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def serve(self) -> ThreadingHTTPServer:
        record = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._send()

            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                record.requests.append((self.path, headers, self._body()))
                self._send()

            def _body(self) -> bytes:
                if "chunked" not in self.headers.get("transfer-encoding", ""):
                    return self.rfile.read(int(self.headers.get("content-length", 0)))
                whole = b""
                while size := int(self.rfile.readline(), 16):
                    whole += self.rfile.read(size + 2)[:-2]
                self.rfile.readline()
                return whole

            def _send(self) -> None:
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        host, port = self.endpoint.split(":")
        server = ThreadingHTTPServer((host, int(port)), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server


@pytest.fixture(scope="module")
def extproc_port() -> Iterator[int]:
    with running("router_by_name.py") as port:
        yield port


@pytest.fixture
def record() -> Iterator[Record]:
    record = Record()
    server = record.serve()
    yield record
    server.shutdown()
    server.server_close()


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway], record: Record, extproc_port: int) -> Gateway:
    # Checks of health are requests too, which are not counted here.
    return start_gateway({"m": [record.endpoint]}, extproc_port=extproc_port, request_timeout_seconds=1,
                         reliability={"health_check_path": None})  # fmt: skip


def raw(gateway: Gateway, data: bytes, silence: float = 0.0) -> bytes:
    """What comes back for some bytes: a whole response, and all that follows until ``silence`` seconds are still."""
    answer = b""
    with socket.create_connection((gateway.client.base_url.host, gateway.client.base_url.port)) as connection:
        connection.settimeout(PATIENCE)
        with suppress(ConnectionError, TimeoutError):
            connection.sendall(data)
            while not _whole(answer) and (piece := connection.recv(65536)):
                answer += piece
            connection.settimeout(silence)
            while silence and (piece := connection.recv(65536)):
                answer += piece
    return answer


def _whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(separator) and length is not None and len(body) >= int(length[1])


def request(path: str, *headers: bytes, body: bytes = BODY, length: bool = True) -> bytes:
    lines = [b"POST " + path.encode("latin-1") + b" HTTP/1.1", b"host: gateway", b"content-type: application/json"]
    lines += [b"connection: close", *headers, *([b"content-length: %d" % len(body)] if length else [])]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def statuses(answer: bytes) -> list[int]:
    return [int(piece[:3]) for piece in answer.split(b"HTTP/1.1 ")[1:]]


PATHS = [
    prefix + "/v1/load_lora_adapter" + suffix
    for prefix in ("", "//", "/v1/chat/completions/..", "/v1/chat/completions/../..", "/v1/models/../..",
                   "/v1/chat/completions/%2e%2e/%2e%2e", "/v1/chat/completions;/..", "/v1/chat/completions/..;/..")
    for suffix in ("", "/", "?/v1/chat/completions", ";/v1/chat/completions", "%00/v1/chat/completions",
                   "#/v1/chat/completions")
] + [
    "/v1/chat/completions/../load_lora_adapter", "/v1/chat/completions%2f..%2fload_lora_adapter",
    "/v1/chat/completions\\..\\load_lora_adapter", "/v1/chat/completions%5c..%5cload_lora_adapter",
    "/V1/CHAT/COMPLETIONS", "/v1/chat/completions%20", "/v1/chat/completions%0d%0aa:b", "/v1/./load_lora_adapter",
    "/v1/chat/completions/%2e/x", "http://gateway/v1/load_lora_adapter", "http://other/v1/load_lora_adapter",
    "/\xe9/v1/chat/completions", "*", "v1/chat/completions", "/v1/chat/completionsx", "/v1/chat//../load_lora_adapter",
    "/metrics", "/tokenize", "/v1/unload_lora_adapter", "/admin", "/config", "/.", "/..", "/%", "/%zz", "/%u002e",
]  # fmt: skip


def test_no_trick_with_a_path_reaches_another_one(gateway: Gateway, record: Record) -> None:
    for path in PATHS:
        answered = statuses(raw(gateway, request(path)))
        assert answered and answered[0] < 500, path
    assert not [path for path, _, _ in record.requests if path.partition("?")[0] not in envoy.MODEL_PATHS]


SPOOFED = [b"x-gateway-base-model-name", b"x-selected-model", b"x-vsr-selected-model", b"x-vsr-response-path",
           b"x-vsr-anything", b"x-envoy-retry-on", b"x-envoy-upstream-rq-timeout-ms"]  # fmt: skip
SPELT: list[Callable[[bytes], bytes]] = [
    lambda name: name + b": evil",
    lambda name: name.upper() + b": evil",
    lambda name: name.title() + b":evil",
    lambda name: name.replace(b"-", b"_") + b": evil",
    lambda name: name + b": evil\r\n" + name + b": evil",
    lambda name: name + b": m, evil",
    lambda name: name + b":\tevil",
    lambda name: b"connection: " + name + b"\r\n" + name + b": evil",
    lambda name: name + b" : evil",
    lambda name: b" " + name + b": evil",
    lambda name: b"x-a: b\r\n " + name + b": evil",
    lambda name: b"x-a: b\n" + name + b": evil",
    lambda name: b"x-a: b\r" + name + b": evil",
    lambda name: name + b"\x00: evil",
]


def test_no_spelling_of_an_internal_header_reaches_a_backend(gateway: Gateway, record: Record) -> None:
    for name in SPOOFED:
        for spell in SPELT:
            raw(gateway, request("/v1/chat/completions", spell(name)))
    assert len(record.requests) >= len(SPOOFED)
    for _, headers, _ in record.requests:
        assert "evil" not in {value for header, value in headers.items() if header != "x-a"}
        # The router's own two, and none besides.
        ours = {header for header in headers if header.startswith(("x-gateway", "x-selected", "x-vsr", "x-envoy-up"))}
        assert ours <= {"x-gateway-base-model-name", "x-selected-model"}
        assert headers["x-gateway-base-model-name"] == headers["x-selected-model"] == "m"


INNER = b"POST /v1/load_lora_adapter HTTP/1.1\r\nhost: gateway\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
FRAMINGS = [
    request("/v1/chat/completions", *lines, body=body + INNER, length=False)
    for lines in (
        [b"content-length: %d" % len(BODY), b"transfer-encoding: chunked"],
        [b"transfer-encoding: chunked", b"content-length: 0"],
        [b"transfer-encoding: chunked", b"transfer-encoding: identity"],
        [b"transfer-encoding: identity", b"transfer-encoding: chunked"],
        [b"transfer-encoding: chunked, identity"],
        [b"transfer-encoding: xchunked"],
        [b"transfer-encoding : chunked"],
        [b"transfer-encoding:\x0bchunked"],
        [b"transfer-encoding: \"chunked\""],
        [b"Transfer-Encoding: CHUNKED", b"content-length: 3"],
        [b"content-length: 0", b"content-length: %d" % len(BODY)],
        [b"content-length: +%d" % len(BODY)],
        [b"content-length: %d, 0" % len(BODY)],
        [b"content-length: -1"],
        [b"content-length: 0x10"],
        [b"content-length: 99999999999999999999"],
        [b"content-length:"],
        [b"x: y\r\n\r\nGET /v1/models HTTP/1.1\r\nhost: g"],
    )
    for body in (BODY, CHUNKED)
] + [
    request("/v1/chat/completions", b"transfer-encoding: chunked", body=chunks + INNER, length=False)
    for chunks in (
        CHUNKED.replace(b"\r\n", b"\n"), b"0x%b" % CHUNKED, b"+%b" % CHUNKED, b"-1\r\n" + CHUNKED, b" %b" % CHUNKED,
        b"%x;a=\x00\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY), b"FFFFFFFFFFFFFFFFF\r\n" + CHUNKED,
        b"%x\r\n%bX\r\n0\r\n\r\n" % (len(BODY), BODY), b"0\r\nx-gateway-base-model-name: evil\r\n\r\n", b"0\r\n",
    )
]  # fmt: skip


def test_no_framing_makes_a_backend_see_a_request_that_envoy_did_not(gateway: Gateway, record: Record) -> None:
    for data in FRAMINGS:
        answered = statuses(raw(gateway, data, 0.1))
        assert answered and max(answered) <= 501, data
    assert not [path for path, _, _ in record.requests if path != "/v1/chat/completions"]
    assert gateway.stat("cluster.model/m.upstream_rq_total") == len(record.requests)
    assert all(body in (BODY, b"") for _, _, body in record.requests)
    assert gateway.client.post("/v1/chat/completions", json=chat("m")).status_code == 200

"""What Envoy itself answers at the edge: in the API's shape, and never an empty connection."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from local_stack import PATIENCE, Gateway, chat, is_openai_error, running
from test_stack_gateway import ask

pytestmark = pytest.mark.e2e

CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
BODY = json.dumps(chat("m")).encode()
# That, and 2,000 letters in `user`, by zstd; Python 3.11 has none.
ZSTD = bytes.fromhex(
    "28b52ffd045845020082040f1690a7e90b0a7503dbb243b53fc356ffe035e764777308e9c2ad41a4f1ce06b73ec54e41c01d"
    "1b4bc2adedd08c86d6698222d3c81d935b9f05908c020200cce33e09c15566db2c53f9"
)


@pytest.fixture(scope="module")
def extproc_port() -> Iterator[int]:
    with running("router_by_name.py") as port:
        yield port


@pytest.fixture
def gateway(start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int) -> Gateway:
    return start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port, request_timeout_seconds=1)


def raw(gateway: Gateway, data: bytes, later: bytes = b"") -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are; return status, headers and body of the answer (0 where the connection just ends)."""
    with socket.create_connection((gateway.client.base_url.host, gateway.client.base_url.port)) as connection:
        connection.settimeout(PATIENCE)
        connection.sendall(data)
        if later:
            time.sleep(0.5)
            connection.sendall(later)
        answer = b""
        while not _whole(answer) and (piece := connection.recv(65536)):
            answer += piece
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = body.partition(b"\r\n")[2].removesuffix(b"\r\n0\r\n\r\n")
    return int(first.split(" ")[1]) if first else 0, headers, body


def _whole(answer: bytes) -> bool:
    head, separator, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length: "):
            return bool(separator) and len(body) >= int(line.removeprefix(b"content-length: "))
    return body.endswith(b"0\r\n\r\n")


# Status and what is sent, or what is sent after a pause.
EARLY: dict[str, tuple[int, bytes] | tuple[int, bytes, bytes]] = {
    "both lengths": (400, CHAT + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    "no length": (400, CHAT + b"content-length: many\r\n\r\n"),
    "two lengths": (400, CHAT + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello"),
    "odd coding": (501, CHAT + b"transfer-encoding: br\r\n\r\n"),
    "no request": (400, b"hello\r\n\r\n"),
    "no host": (400, b"GET /v1/models HTTP/1.1\r\n\r\n"),
    "NUL in a header": (400, CHAT + b"x-a: a\x00b\r\n\r\n"),
    "space in a name": (400, CHAT + b"x a: b\r\n\r\n"),
    "fragment": (400, b"GET /v1/models#a HTTP/1.1\r\nhost: gateway\r\n\r\n"),
    "large header": (431, CHAT + b"x-a: " + b"a" * 70_000 + b"\r\n\r\n"),
    "many headers": (431, CHAT + b"".join(b"x-%d: a\r\n" % number for number in range(200)) + b"\r\n"),
    "bad chunk": (400, CHAT + b"transfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"),
    "late bad chunk": (400, CHAT + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n", b"zz\r\nhello\r\n0\r\n\r\n"),
    "chunks that never end": (408, CHAT + b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n"),
    "larger than may be": (413, CHAT + b"content-length: 200000\r\n\r\n" + b"x" * 200_000),
    "larger in the end": (413, CHAT + b"transfer-encoding: chunked\r\n\r\n30d40\r\n" + b"x" * 200_002),
    "larger, with a GET": (
        413,
        b"GET /v1/models HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n80000\r\n" + b"x" * 400_000,
    ),
    "CONNECT": (403, b"CONNECT gateway:443 HTTP/1.1\r\nhost: gateway\r\n\r\n"),
    "upgrade": (403, b"GET /v1/models HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
    "body that never comes": (408, CHAT + b"content-length: 500\r\n\r\n{"),
    "headers that never end": (408, CHAT),
}


MODES = [
    ("BUFFERED", "NONE"), ("STREAMED", "STREAMED"), ("FULL_DUPLEX_STREAMED", "STREAMED"), ("FULL_DUPLEX_STREAMED",) * 2
]  # fmt: skip


@pytest.mark.parametrize("modes", MODES)
def test_early_answers_reach_the_client(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int, modes: tuple[str, str]
) -> None:
    before, after = modes
    gateway = start_gateway(
        {"m": [start_backend("m")]}, extproc_port=extproc_port, request_timeout_seconds=1,
        request_body_mode=before, response_body_mode=after,
    )  # fmt: skip
    for name, (expected, *data) in EARLY.items():
        status, headers, body = raw(gateway, *data)
        assert status == expected, name
        kind = {"content-type": headers["content-type"]}
        assert is_openai_error(httpx.Response(status, headers=kind, content=body)), name
    spoken = raw(gateway, CHAT.replace(b"chat/completions", b"messages") + b"content-length: 500\r\n\r\n{")
    assert (spoken[0], json.loads(spoken[2])["type"]) == (408, "error")
    # And what is no mistake is served.
    chunks = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
    for data in (CHAT + chunks + b"\r\n", CHAT + b"trailer: x-a\r\n" + chunks + b"x-a: b\r\n\r\n"):
        status, _, body = raw(gateway, data)
        assert (status, json.loads(body)["model"]) == (200, "m")
    assert raw(gateway, CHAT + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n")[0] == 400
    assert raw(gateway, CHAT + b"\r\n")[0] == 400


def test_http_1_0_is_served_as_nginx_speaks_it(gateway: Gateway) -> None:
    nginx = b"POST /v1/chat/completions HTTP/1.0\r\nHost: router\r\nConnection: close\r\n"
    status, _, body = raw(gateway, nginx + b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY))
    assert status == 200 and json.loads(body)["model"] == "m"
    assert raw(gateway, b"GET /health HTTP/1.0\r\n\r\n")[0] == 200


def test_names_with_a_slash_are_found_and_nothing_else_is_hidden(gateway: Gateway) -> None:
    assert ask(gateway, "GET", "/v1/models/Qwen%2FQwen3-8B").status_code == 200
    assert ask(gateway, "GET", "/v1/models/Qwen%2fQwen3-8B").status_code == 200
    for path in (
        "/v1/models/..%2fmetrics",
        "/v1/models/a%2F..%2Fb",
        "/v1/models/a%2F%2e%2e%2Fb",
        "/v1/models/a%2F.",
        "/v1/models/a%5Cb",
        "/v1%2Fmodels/a",
        "/v1%2fchat/completions",
    ):
        answer = ask(gateway, "GET", path)
        assert answer.status_code == 400 and is_openai_error(answer), path
    for path in ("/v1/chat%2fcompletions", "/v1/chat/completions%2f..%2f..%2fmetrics", "/v1/models/a%2Fb"):
        answer = ask(gateway, "POST", path, json=chat("m"))
        assert answer.status_code in (400, 404) and is_openai_error(answer), path


def test_a_path_that_is_nearly_right_is_told_what_is_wrong(gateway: Gateway) -> None:
    for method, path, word in (
        ("POST", "/v1/v1/chat/completions", "twice"),
        ("GET", "/v1/v1/models", "twice"),
        ("POST", "/chat/completions", "lacks"),
        ("POST", "/v1/chat/completions/", "slash"),
        ("GET", "/v1/models/", "slash"),
        ("GET", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
    ):
        answer = ask(gateway, method, path)
        assert answer.status_code == 404 and is_openai_error(answer), path
        assert word in answer.json()["error"]["message"], path
    for path in ("/v1/messages/count_tokens", "/v1/messages/", "/v1/messages/batches"):
        answer = ask(gateway, "POST", path, json=chat("m"))
        assert answer.status_code == 404, path
        assert answer.json()["type"] == "error" and answer.json()["error"]["type"] == "not_found_error", path
    assert is_openai_error(ask(gateway, "POST", "/v1/messagesx", json=chat("m")))


def test_compressed_bodies_are_read_within_bounds(gateway: Gateway) -> None:
    body = json.dumps(chat("m", user="x" * 2000)).encode()
    for coding, compressed in (("gzip", gzip.compress(body)), ("zstd", ZSTD)):
        headers = {"content-encoding": coding, "content-type": "application/json"}
        answer = gateway.client.post("/v1/chat/completions", content=compressed, headers=headers)
        assert answer.status_code == 200 and answer.json()["model"] == "m", coding
    headers = {"content-encoding": "gzip"}
    for large in (b"x" * 50_000_000, json.dumps(chat("m", user="ab%cd*?" * 30_000)).encode()):
        answer = gateway.client.post("/v1/chat/completions", content=gzip.compress(large), headers=headers)
        assert answer.status_code in (400, 413) and is_openai_error(answer)
    answer = gateway.client.post("/v1/chat/completions", content=b"not gzip", headers=headers)
    assert answer.status_code == 400 and is_openai_error(answer)


def test_browsers_may_call_only_where_configured(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int
) -> None:
    page = "https://chat.example.com"
    preflight_headers = {"origin": page, "access-control-request-method": "POST",
             "access-control-request-headers": "authorization,content-type,x-stainless-os"}  # fmt: skip
    cors = {"allow_origins": [page]}
    gateway = start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port, cors=cors)
    for path in ("/v1/chat/completions", "/v1/models"):
        preflight = ask(gateway, "OPTIONS", path, headers=preflight_headers)
        assert preflight.status_code == 200 and preflight.headers["access-control-allow-origin"] == page
        allowed = preflight.headers["access-control-allow-headers"].split(", ")
        assert {"authorization", "content-type", "x-stainless-os"} <= set(allowed)
        assert "access-control-allow-credentials" not in preflight.headers
    for model, status in (("m", 200), ("refuse", 503), ("unknown", 503)):
        answer = gateway.client.post("/v1/chat/completions", json=chat(model), headers={"origin": page})
        assert answer.status_code == status and answer.headers["access-control-allow-origin"] == page
    other = {**preflight_headers, "origin": "https://evil.example.com"}
    assert "access-control-allow-origin" not in ask(gateway, "OPTIONS", "/v1/models", headers=other).headers


def test_a_star_lets_every_page_call(
    start_gateway: Callable[..., Gateway], start_backend: Callable[..., str], extproc_port: int
) -> None:
    gateway = start_gateway({"m": [start_backend("m")]}, extproc_port=extproc_port, cors={"allow_origins": ["*"]})
    for page in ("https://chat.example.com", "http://localhost:3000"):
        answer = gateway.client.post("/v1/chat/completions", json=chat("m"), headers={"origin": page})
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == page

"""A router, a real Envoy before it, and a backend behind it, on free loopback ports."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.extproc.server import ExtProcServer
from router.pipeline import Outcome, Request

TYPE = "type.googleapis.com/envoy.extensions."
Route = Callable[[Request], Awaitable[Outcome]]


@asynccontextmanager
async def serving(route: Route, **settings: Any) -> AsyncIterator[ExtProcServer]:
    server = ExtProcServer(route, port=0, **settings)
    await server.start()
    try:
        yield server
    finally:
        await server.drain(0)


async def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


# --- backend -------------------------------------------------------------------------------------------------------


@dataclass
class Received:
    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]


@dataclass
class Backend:
    """An HTTP/1.1 server that keeps what it received.

    ``/v1/stream`` answers with three server-sent events, the second and third after ``go`` is set; ``/v1/reset``
    breaks off after the first one; anything else gets a small JSON answer.
    """

    port: int = 0
    received: list[Received] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await _read(reader)
                self.received.append(request)
                if "/v1/stream" in request.line or "/v1/reset" in request.line:
                    writer.write(
                        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                    )
                    await _chunk(writer, b"data: 0\n\n")
                    if "/v1/reset" in request.line:
                        writer.transport.abort()
                        return
                    await self.go.wait()
                    await _chunk(writer, b"data: 1\n\n")
                    await _chunk(writer, b"data: [DONE]\n\n")
                    await _chunk(writer, b"")
                else:
                    answer = json.dumps({"length": len(request.body)}).encode()
                    writer.write(
                        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer)
                    )
                    writer.write(answer)
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))
    await writer.drain()


async def _read(reader: asyncio.StreamReader) -> Received:
    line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    headers = [(name.lower(), value.strip()) for name, _, value in (text.partition(":") for text in rest)]
    fields = dict(headers)
    body = b""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    elif "content-length" in fields:
        body = await reader.readexactly(int(fields["content-length"]))
    return Received(line, headers, body)


# --- Envoy ---------------------------------------------------------------------------------------------------------


def bootstrap(
    extproc_port: int,
    backend_port: int,
    *,
    modes: dict[str, str] | None = None,
    allow_mode_override: bool = True,
    guard: bool = True,
    buffer_limit: int = 16 * 1024 * 1024,
    before: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Envoy's configuration: like the one that ships, save that it strips nothing from clients."""
    to_backend = {"route": {"cluster": "backend", "timeout": "0s"}}
    routes: list[dict[str, Any]] = [
        {
            "match": {
                "prefix": "/v1/",
                "headers": [{"name": "x-gateway-base-model-name", "string_match": {"exact": "base"}}],
            },
            **to_backend,
        },
        {"match": {"prefix": "/"}, **({"direct_response": {"status": 503}} if guard else to_backend)},
    ]
    ext_proc = {
        "@type": TYPE + "filters.http.ext_proc.v3.ExternalProcessor",
        "message_timeout": "5s",
        "allow_mode_override": allow_mode_override,
        "processing_mode": modes
        or {"request_header_mode": "SEND", "request_body_mode": "BUFFERED", "response_header_mode": "SEND"},
        "grpc_service": {"envoy_grpc": {"cluster_name": "extproc"}},
    }
    manager = {
        "@type": TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "main",
        "http_protocol_options": {"enable_trailers": True},
        "route_config": {"name": "main", "virtual_hosts": [{"name": "main", "domains": ["*"], "routes": routes}]},
        "http_filters": [
            *(before or []),
            {"name": "envoy.filters.http.ext_proc", "typed_config": ext_proc},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": TYPE + "filters.http.router.v3.Router"}},
        ],
    }
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": TYPE + "upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    return {
        "admin": {"address": _address(0)},
        "static_resources": {
            "listeners": [
                {
                    "name": "main",
                    "address": _address(0),
                    "per_connection_buffer_limit_bytes": buffer_limit,
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                _cluster("backend", backend_port),
                {**_cluster("extproc", extproc_port), "typed_extension_protocol_options": http2},
            ],
        },
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, port: int) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
    }


@asynccontextmanager
async def envoy(config: dict[str, Any]) -> AsyncIterator[tuple[str, str]]:
    """Run Envoy; give the URLs of its listener and of its admin interface."""
    with tempfile.TemporaryDirectory() as directory:
        admin_file, log = Path(directory, "admin"), Path(directory, "log")
        with log.open("wb") as out:
            process = subprocess.Popen(
                [
                    Path(sys.executable).parent / "envoy",
                    *("--config-yaml", json.dumps(config)),
                    *("--admin-address-path", str(admin_file)),
                    *("--disable-hot-restart", "--concurrency", "1", "-l", "warning"),
                ],
                stdout=out,
                stderr=out,
            )
        try:
            admin, listener = await _addresses(process, admin_file, log)
            yield f"http://{listener}", f"http://{admin}"
        finally:
            process.terminate()
            try:
                await asyncio.to_thread(process.wait, 10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _addresses(process: subprocess.Popen[bytes], admin_file: Path, log: Path) -> tuple[str, str]:
    async with asyncio.timeout(20), httpx.AsyncClient() as client:
        while True:
            assert process.poll() is None, log.read_text()
            if admin_file.exists() and (admin := admin_file.read_text()):
                ready = await client.get(f"http://{admin}/ready")
                if ready.status_code == 200:
                    listeners = (await client.get(f"http://{admin}/listeners?format=json")).json()
                    socket = listeners["listener_statuses"][0]["local_address"]["socket_address"]
                    return admin, f"{socket['address']}:{socket['port_value']}"
            await asyncio.sleep(0.02)


# --- all of it -----------------------------------------------------------------------------------------------------


@dataclass
class Gateway:
    url: str
    admin: str
    client: httpx.AsyncClient
    server: ExtProcServer
    backend: Backend

    async def stat(self, name: str) -> int:
        text = (await self.client.get(f"{self.admin}/stats?filter={name}$")).text
        return int(text.rpartition(":")[2])

    async def raw(self, data: bytes) -> bytes:
        """Send bytes as they are; return what comes back until the gateway closes or is silent for a second."""
        host, port = self.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        answer = b""
        try:
            while piece := await asyncio.wait_for(reader.read(65536), 1):
                answer += piece
        except TimeoutError:
            pass
        finally:
            writer.close()
        return answer


@pytest.fixture
async def gateway() -> AsyncIterator[Callable[..., Awaitable[Gateway]]]:
    """Return ``gateway(route, max_body_bytes=…, **options of bootstrap)``, which starts all three."""
    async with AsyncExitStack() as stack:

        async def start(route: Route, *, max_body_bytes: int = 10 * 1024 * 1024, **options: Any) -> Gateway:
            backend = Backend()
            listening = await asyncio.start_server(backend.handle, "127.0.0.1", 0)
            stack.callback(listening.close)
            stack.callback(backend.go.set)
            backend.port = listening.sockets[0].getsockname()[1]
            server = await stack.enter_async_context(serving(route, max_body_bytes=max_body_bytes))
            url, admin = await stack.enter_async_context(envoy(bootstrap(server.port, backend.port, **options)))
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=10))
            return Gateway(url, admin, client, server, backend)

        yield start

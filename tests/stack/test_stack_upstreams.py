"""A model at somebody else's API: TLS that is verified, a path, a key that changes; through the real Envoy."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from authority import Authority
from local_stack import PATIENCE, chat, free_port, wait_for

from triton_router.config import loads
from triton_router.extproc.server import ExtProcServer
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.stack import envoy
from triton_router.telemetry import Metrics
from triton_router.upstreams import FRESH

pytestmark = pytest.mark.e2e


class Provider:
    """An API with TLS that notes what it is sent, and the names that callers expect of its certificate."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.names: list[str | None] = []
        self.port = free_port()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                provider.requests.append((self.path, headers))
                answer = json.dumps({"model": body["model"]}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


@pytest.fixture
def start_provider(stack: ExitStack, authority: Authority) -> Callable[[str], Provider]:
    def start(name: str) -> Provider:
        provider = Provider(*authority.sign(name, name))
        stack.callback(provider.close)
        return provider

    return start


@asynccontextmanager
async def gateway(stack: ExitStack, directory: Path, ref: str) -> AsyncIterator[httpx.AsyncClient]:
    """Envoy and the router in front of one model, ``far``, at the address ``ref``."""
    listening, admin = free_port(), free_port()
    loaded = loads(f"""
providers:
  defaults: {{default_model: far}}
  models: [{{name: far, provider_model_id: far-2, backend_refs: [{ref}]}}]
global: {{services: {{envoy: {{port: {listening}, admin_port: {admin}, concurrency: 1}}}}}}
""")
    route = Pipeline(compile_runtime(loaded), None, {}, Metrics()).route
    server = ExtProcServer(route, port=0)
    await server.start()
    path = directory / "envoy.json"
    path.write_text(json.dumps(envoy.static(loaded.config, workers=[("127.0.0.1", server.port)])))
    log = stack.enter_context((directory / "envoy.log").open("wb"))
    command = [str(Path(sys.executable).with_name("envoy")), "-c", str(path), "-l", "info", "--disable-hot-restart"]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{admin}/ready").status_code == 200, "Envoy ready")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening}", timeout=PATIENCE) as client:
            client.headers["x-admin"] = str(admin)
            yield client
    finally:
        process.terminate()
        process.wait(10)
        await server.drain(0)


async def test_key_path_and_name_reach_the_provider_and_the_clients_credentials_do_not(
    stack: ExitStack, tmp_path: Path, authority: Authority, start_provider: Callable[[str], Provider],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    provider, key = start_provider("localhost"), tmp_path / "key"
    key.write_text("sk-first\n")
    ref = f"""{{base_url: "https://localhost:{provider.port}/openai/v1", ca_file: {authority.file},
               api_key_file: {key}, extra_headers: {{x-org: team-7}}}}"""
    own = {"authorization": "Bearer sk-client", "x-api-key": "sk-client", "cookie": "s=1", "x-authz-user-id": "ada"}
    async with gateway(stack, tmp_path, ref) as client:
        for model in ("auto", "far"):
            answer = await client.post("/v1/chat/completions?a=b", json=chat(model), headers=own)
            assert answer.status_code == 200, answer.text
            assert answer.json() == {"model": "far-2"}
        key.write_text("sk-second")
        time.sleep(FRESH)
        await client.post("/v1/chat/completions", json=chat(), headers=own)
        dump = httpx.get(f"http://127.0.0.1:{client.headers['x-admin']}/config_dump").text
    paths = [path for path, _ in provider.requests]
    assert paths == ["/openai/v1/chat/completions?a=b"] * 2 + ["/openai/v1/chat/completions"]
    assert [headers["authorization"] for _, headers in provider.requests] == [
        "Bearer sk-first", "Bearer sk-first", "Bearer sk-second"
    ]  # fmt: skip
    for _, headers in provider.requests:
        assert headers["host"] in ("localhost", f"localhost:{provider.port}") and headers["x-org"] == "team-7"
        assert not {"x-api-key", "cookie", "x-authz-user-id"} & headers.keys()
    assert set(provider.names) == {"localhost"}
    shown = "".join(capfd.readouterr()) + dump + (tmp_path / "envoy.log").read_text()
    assert "sk-first" not in shown and "sk-second" not in shown


@pytest.mark.parametrize("trusted", ["another name", "another authority"])
async def test_a_certificate_for_somebody_else_ends_the_request(
    stack: ExitStack, tmp_path: Path, authority: Authority, start_provider: Callable[[str], Provider], trusted: str
) -> None:
    provider = start_provider("elsewhere.example" if trusted == "another name" else "localhost")
    other = Authority(tmp_path, "other")
    ca = authority.file if trusted == "another name" else other.file
    ref = f'{{base_url: "https://localhost:{provider.port}/v1", ca_file: {ca}, api_key: sk-secret}}'
    async with gateway(stack, tmp_path, ref) as client:
        answer = await client.post("/v1/chat/completions", json=chat())
    assert answer.status_code == 503 and provider.requests == []

"""ext_proc over TLS: the real Envoy as client, certificates that change, callers without one."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from authority import Authority
from grpc_health.v1 import health_pb2, health_pb2_grpc
from local_stack import PATIENCE, chat, free_port, make_config, wait_for

from triton_router.config.services import ServerTls
from triton_router.exchange import Forward, Outcome, Request
from triton_router.extproc.server import ExtProcServer
from triton_router.extproc.tls import TlsFiles
from triton_router.stack import envoy

NAME = "router.example"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


async def to_small(request: Request) -> Outcome:
    return Forward({"x-selected-model": "small", "x-gateway-base-model-name": "small"}, request.body, {})


@asynccontextmanager
async def router(tls: ServerTls, health_port: int | None = None) -> AsyncIterator[ExtProcServer]:
    server = ExtProcServer(to_small, port=0, tls=tls, health_port=health_port)
    await server.start()
    try:
        yield server
    finally:
        await server.drain(0)


def server_tls(authority: Authority, *, callers: Authority | None = None) -> ServerTls:
    certificate, key = authority.sign("router", NAME)
    ca = str(callers.file) if callers else None
    return ServerTls(cert_file=str(certificate), key_file=str(key), client_ca_file=ca)


@pytest.fixture
def start_envoy(stack: ExitStack, tmp_path: Path) -> Callable[..., httpx.AsyncClient]:
    def start(tls: ServerTls, router_tls: dict[str, Any], port: int, backend: str) -> httpx.AsyncClient:
        listening, admin = free_port(), free_port()
        services = {
            "envoy": {"port": listening, "admin_port": admin, "concurrency": 1, "router_tls": router_tls},
            "extproc": {"port": port, "tls": tls.model_dump()},
        }
        config = make_config({"small": [backend]}, services=services)
        path = tmp_path / f"envoy-{listening}.json"
        path.write_text(json.dumps(envoy.static(config, workers=[("127.0.0.1", port)])))
        log = stack.enter_context(path.with_suffix(".log").open("wb"))
        command = [str(Path(sys.executable).with_name("envoy")), "-c", str(path), "-l", "warning"]
        process = subprocess.Popen([*command, "--disable-hot-restart"], stdout=log, stderr=log)
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{admin}/ready").status_code == 200, "Envoy ready")
        return httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening}", timeout=PATIENCE)

    return start


def fingerprint(port: int) -> str:
    """Of the certificate that a new connection is shown."""
    return ssl.get_server_certificate(("127.0.0.1", port))


async def health(port: int, credentials: grpc.ChannelCredentials | None) -> int:
    target, options = f"127.0.0.1:{port}", [("grpc.ssl_target_name_override", NAME)]
    made = grpc.aio.secure_channel(target, credentials, options) if credentials else grpc.aio.insecure_channel(target)
    async with made as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        return int(answer.status)


# --- through Envoy -------------------------------------------------------------------------------------------------


async def test_envoy_and_router_show_each_other_certificates(
    authority: Authority, start_envoy: Callable[..., httpx.AsyncClient], start_backend: Callable[..., str]
) -> None:
    backend, tls = start_backend("small"), server_tls(authority, callers=authority)
    certificate, key = authority.sign("envoy", "envoy.example")
    shown = {"ca_file": str(authority.file), "server_name": NAME, "cert_file": str(certificate), "key_file": str(key)}
    async with router(tls) as server, start_envoy(tls, shown, server.port, backend) as client:
        answer = await client.post("/v1/chat/completions", json=chat("small"))
        assert (answer.status_code, answer.json()["model"]) == (200, "small")


@pytest.mark.parametrize("missing", ["certificate", "trust", "name"])
async def test_envoy_is_refused_and_fails_closed(
    missing: str,
    authority: Authority,
    tmp_path: Path,
    start_envoy: Callable[..., httpx.AsyncClient],
    start_backend: Callable[..., str],
) -> None:
    backend, tls = start_backend("small"), server_tls(authority, callers=authority)
    certificate, key = authority.sign("envoy", "envoy.example")
    shown = {"ca_file": str(authority.file), "server_name": NAME, "cert_file": str(certificate), "key_file": str(key)}
    if missing == "certificate":
        del shown["cert_file"], shown["key_file"]
    elif missing == "trust":
        shown["ca_file"] = str(Authority(tmp_path, "stranger").file)
    else:
        shown["server_name"] = "another.example"
    async with router(tls) as server, start_envoy(tls, shown, server.port, backend) as client:
        answer = await client.post("/v1/chat/completions", json=chat("small"))
        assert answer.status_code == 503


# --- the port itself -----------------------------------------------------------------------------------------------


async def test_a_caller_in_the_clear_is_not_heard(authority: Authority) -> None:
    async with router(server_tls(authority)) as server:
        with pytest.raises(grpc.aio.AioRpcError):
            await health(server.port, None)


async def test_a_caller_of_another_authority_is_not_heard(authority: Authority, tmp_path: Path) -> None:
    tls = server_tls(authority, callers=authority)
    certificate, key = Authority(tmp_path, "stranger").sign("caller", "caller.example")
    root = authority.file.read_bytes()
    foreign = grpc.ssl_channel_credentials(root, key.read_bytes(), certificate.read_bytes())
    async with router(tls) as server:
        with pytest.raises(grpc.aio.AioRpcError):
            await health(server.port, foreign)
        certificate, key = authority.sign("caller", "caller.example")
        ours = grpc.ssl_channel_credentials(root, key.read_bytes(), certificate.read_bytes())
        assert await health(server.port, ours) == health_pb2.HealthCheckResponse.SERVING


async def test_probes_have_a_port_of_their_own(authority: Authority) -> None:
    probes = free_port()
    async with router(server_tls(authority, callers=authority), probes):
        assert await health(probes, None) == health_pb2.HealthCheckResponse.SERVING
        async with grpc.aio.insecure_channel(f"127.0.0.1:{probes}") as channel:
            process = channel.stream_stream("/envoy.service.ext_proc.v3.ExternalProcessor/Process")()
            assert await process.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_new_certificate_is_shown_without_a_restart(authority: Authority) -> None:
    async with router(server_tls(authority)) as server:
        before = await asyncio.to_thread(fingerprint, server.port)
        authority.sign("router", NAME)
        after = await asyncio.to_thread(fingerprint, server.port)
        assert before != after
        root = grpc.ssl_channel_credentials(authority.file.read_bytes())
        assert await health(server.port, root) == health_pb2.HealthCheckResponse.SERVING


async def test_a_rotation_half_done_leaves_the_last_certificate(authority: Authority, tmp_path: Path) -> None:
    tls = server_tls(authority)
    async with router(tls) as server:
        before = await asyncio.to_thread(fingerprint, server.port)
        _, key = authority.sign("other", NAME)
        Path(tls.key_file).write_bytes(key.read_bytes())
        assert await asyncio.to_thread(fingerprint, server.port) == before


@pytest.mark.parametrize("broken", ["absent", "not a key", "another key", "no authority"])
async def test_files_that_cannot_be_used_are_told_at_the_start(
    broken: str, authority: Authority, tmp_path: Path
) -> None:
    tls = server_tls(authority, callers=authority)
    if broken == "absent":
        Path(tls.cert_file).unlink()
    elif broken == "not a key":
        Path(tls.key_file).write_text("nonsense")
    elif broken == "another key":
        Path(tls.key_file).write_bytes(authority.sign("other", NAME)[1].read_bytes())
    else:
        authority.file.write_text("nonsense")
    with pytest.raises(TlsFiles, match=r"global\.services\.extproc\.tls"):
        await ExtProcServer(to_small, port=0, tls=tls).start()


def test_envoy_must_be_told_how(authority: Authority) -> None:
    tls = server_tls(authority).model_dump()
    config = make_config({"small": ["127.0.0.1:1"]}, services={"extproc": {"tls": tls}})
    with pytest.raises(RuntimeError, match="router_tls"):
        envoy.static(config, workers=[("127.0.0.1", 1)])

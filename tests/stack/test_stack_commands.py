"""`triton-router envoy` and `health`, and the files that `serve` brings up to date when it starts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from local_stack import REPOSITORY, free_port, make_config

from triton_router.cli import main
from triton_router.exchange import Forward, Outcome, Request
from triton_router.extproc.server import ExtProcServer
from triton_router.stack.gateway import FileGateway

QUICKSTART = REPOSITORY / "config" / "quickstart.yaml"


def written(path: Path, **services: object) -> Path:
    document = yaml.safe_load(QUICKSTART.read_text()) | {"global": {"services": services}}
    path.write_text(yaml.safe_dump(document))
    return path


# --- envoy ---------------------------------------------------------------------------------------------------------


def test_the_printed_configuration_is_one_that_envoy_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envoy", "--config", str(QUICKSTART), "--router", "router.example:50051"]) == 0
    path = tmp_path / "envoy.json"
    path.write_text(capsys.readouterr().out)
    names = [cluster["name"] for cluster in json.loads(path.read_text())["static_resources"]["clusters"]]
    assert names == ["extproc", "model/thinker", "model/quick", "fallback"]
    command = [str(Path(sys.executable).with_name("envoy")), "--mode", "validate", "-c", str(path), "-l", "error"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


def test_routers_with_tls_need_a_word_for_envoy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(tmp_path / "config.yaml", extproc={"tls": {"cert_file": "a", "key_file": "b"}})
    assert main(["envoy", "--config", str(config)]) == 1
    assert "global.services.envoy.router_tls" in capsys.readouterr().err


# --- health --------------------------------------------------------------------------------------------------------


async def forward(request: Request) -> Outcome:
    return Forward({}, request.body, {})


@contextmanager
def serving(port: int) -> Iterator[None]:
    """A router in a thread of its own: the command runs a loop too."""
    up, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def run() -> None:
        server = ExtProcServer(forward, port=port)
        await server.start()
        up.set()
        await stop.wait()
        await server.drain(0)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    try:
        assert up.wait(60)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)


def health(config: Path) -> int:
    command = [sys.executable, "-m", "triton_router.cli", "health", "--config", str(config)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, timeout=60, check=False).returncode


def test_health_is_the_exit_status(tmp_path: Path) -> None:
    port = free_port()
    config = written(tmp_path / "config.yaml", extproc={"port": port})
    assert health(config) == 1
    with serving(port):
        assert health(config) == 0


def test_health_with_tls_needs_a_port_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(tmp_path / "config.yaml", extproc={"tls": {"cert_file": "a", "key_file": "b"}})
    assert main(["health", "--config", str(config)]) == 1
    assert "health_port" in capsys.readouterr().err


# --- what serve writes ---------------------------------------------------------------------------------------------


def clusters(directory: Path) -> list[str]:
    return [each["name"] for each in json.loads((directory / "cds.json").read_text())["resources"]]


def test_an_empty_directory_gets_all_that_envoy_starts_with(tmp_path: Path) -> None:
    config = make_config({"small": ["127.0.0.1:1"]}, services={"extproc": {"host": "0.0.0.0", "port": 50123}})
    FileGateway.of(tmp_path, config).write()
    [own] = json.loads((tmp_path / "bootstrap.json").read_text())["static_resources"]["clusters"]
    [endpoint] = own["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    assert (address["address"], address["port_value"]) == ("127.0.0.1", 50123)
    assert clusters(tmp_path) == ["model/small", "fallback"]


def test_a_router_that_starts_again_brings_envoy_up_to_date(tmp_path: Path) -> None:
    FileGateway.of(tmp_path, make_config({"small": ["127.0.0.1:1"]})).write()
    before = (tmp_path / "bootstrap.json").read_bytes()
    FileGateway.of(tmp_path, make_config({"small": ["127.0.0.1:1"], "large": ["127.0.0.1:2"]})).write()
    assert clusters(tmp_path) == ["model/small", "model/large", "fallback"]
    assert (tmp_path / "bootstrap.json").read_bytes() == before

"""What the tests of the stack share: ports, configurations, requests, a client for a running Envoy."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from triton_router.config import Config
from triton_router.stack import envoy

REPOSITORY = Path(__file__).resolve().parents[2]
# Seconds until what must happen is given up. Long: a machine may stand still for a minute, and no test is a stopwatch.
PATIENCE = 120.0


def free_port() -> int:
    """A port below the kernel's range for outgoing connections, so that none of those can take it meanwhile."""
    for port in range(free_port.next, _LAST_PORT):  # type: ignore[attr-defined]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free_port.next = port + 1  # type: ignore[attr-defined]
        return port
    raise AssertionError("no free port")


# The processes of one run have ports of their own; two runs on one machine start apart.
_SHARE = 2750
_FIRST_PORT = 20000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 4 * _SHARE
_LAST_PORT = _FIRST_PORT + _SHARE
free_port.next = _FIRST_PORT + os.getpid() % 10 * 100  # type: ignore[attr-defined]


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (httpx.TransportError, OSError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"{what} within {PATIENCE} s")


def make_config(
    models: dict[str, list[str | tuple[str, int]]], *, reliability: dict[str, Any] | None = None, **global_: Any
) -> Config:
    """A configuration with one model a key, served at the given endpoints (with weights)."""
    entries = []
    for name, endpoints in models.items():
        pairs = [(endpoint, 1) if isinstance(endpoint, str) else endpoint for endpoint in endpoints]
        refs = [{"endpoint": endpoint, "weight": weight} for endpoint, weight in pairs]
        checks = {"health_check_interval": 0.2, "health_check_timeout": 0.5}
        entries.append({"name": name, "backend_refs": refs, "reliability": checks | (reliability or {})})
    return Config.model_validate({"providers": {"models": entries}, "global": global_})


@contextmanager
def running(script: str, *arguments: str) -> Iterator[int]:
    """Run an ext_proc server that lies beside this file; yield its port."""
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name(script)), str(port), *arguments]

    def listening() -> bool:
        socket.create_connection(("127.0.0.1", port)).close()
        return True

    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}) as process:
        try:
            wait_for(listening, f"{script} listening")
            yield port
        finally:
            process.terminate()


class Gateway:
    """A running Envoy and a client for it."""

    def __init__(
        self,
        directory: Path,
        url: str,
        admin: str,
        workers: list[tuple[str, int]],
        config: Config | None = None,
        pid: int = 0,
    ) -> None:
        self.directory, self.admin, self.workers, self.pid = directory, admin, workers, pid
        self.config = config or Config()
        self.client = httpx.Client(base_url=url, timeout=PATIENCE)

    def stat(self, name: str) -> int:
        answer = httpx.get(f"{self.admin}/stats", params={"filter": f"^{name}$", "format": "json"})
        return int(answer.json()["stats"][0]["value"])

    def replace(self, config: Config) -> None:
        envoy.write(config, self.directory, workers=self.workers)


def chat(model: str = "auto", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}


def is_openai_error(answer: httpx.Response) -> bool:
    error = json.loads(answer.content)["error"]
    return (
        answer.headers["content-type"].startswith("application/json")
        and error.keys() == {"message", "type", "param", "code"}
        and bool(error["message"])
    )

"""Routers, Triton and backends as ``deploy/base`` sets them up, and Envoys in front of them, on loopback ports."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from envoy_gateway import Address, Resources, validate
from local_stack import free_port, wait_for
from manifests import DEPLOY
from whole_system import BIN, MODELS, Site

TOKEN = "of-the-test"
LOOPBACK = {
    "global": {
        "services": {
            # What a restart costs is asked here, not what too much work does: others share this machine.
            "extproc": {"host": "127.0.0.1", "overload": {"shed_after_ms": 10_000, "refuse_after_ms": 20_000}},
            "api": {"host": "127.0.0.1"},
            "observability": {"metrics": {"host": "127.0.0.1"}},
        }
    }
}


class Pods(Site):
    """What runs in pods; ``identity`` is the Deployment's ROUTER_IDENTITY_SET_BY."""

    def __init__(self, directory: Path, *, identity: str = "nobody", beside: Pods | None = None) -> None:
        super().__init__(directory, DEPLOY / "base" / "config.yaml", LOOPBACK, grpc=beside.grpc if beside else None)
        self._environment = {**os.environ, "ROUTER_API_TOKEN": TOKEN, "ROUTER_IDENTITY_SET_BY": identity}
        self.replicas = [self.extproc]

    def start(self) -> None:
        for model in self.backends:
            self.start_backend(model)
        if self._own_triton:
            self.start_triton()
        self.start_router()
        for port in self.backends.values():
            url = f"http://127.0.0.1:{port}/health"
            wait_for(lambda url=url: httpx.get(url).status_code == 200, "demo backend")  # type: ignore[misc]
        wait_for(self._routes, "the router has Triton")

    def _routes(self) -> bool:
        return httpx.get(f"http://127.0.0.1:{self.rest}/ready").json()["degraded"] == {}

    def start_router(self) -> None:
        command = [str(BIN / "python"), "-m", "triton_router.cli", "serve", "--config", str(self.config_file)]
        command += ["--repository", str(MODELS), "--state-directory", str(self.directory / "state")]
        self._spawn("router", command, self._environment)

    @property
    def addresses(self) -> dict[str, list[Address]]:
        """Services, by name, namespace and port, as loopback addresses of their pods."""
        models = {f"{name}.default:8000": [("127.0.0.1", port)] for name, port in self.backends.items()}
        return {**models, "triton-router.triton-router:50051": [("127.0.0.1", port) for port in self.replicas]}


class Gateway:
    """A running Envoy, and one client's view of it."""

    def __init__(self, port: int, admin: int) -> None:
        self.url, self.admin = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def ask(self, prompt: str, *, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
        body = {"model": "MoM", "messages": [{"role": "user", "content": prompt}], **fields}
        return self.client.post("/v1/chat/completions", json=body, headers=headers)


@contextmanager
def running(resources: Resources, pods: Site, directory: Path) -> Iterator[Gateway]:
    """An Envoy with this configuration, which Envoy has validated before."""
    port, admin = free_port(), free_port()
    document = resources.static(port, admin)
    checked = validate(document, directory)
    assert checked.returncode == 0, checked.stderr + checked.stdout
    path = directory / f"envoy-{port}.json"
    path.write_text(json.dumps(document))
    name = f"envoy-{port}"
    command = [str(BIN / "envoy"), "-c", str(path), "-l", "warning", "--disable-hot-restart", "--concurrency", "1"]
    pods._spawn(name, command)
    gateway = Gateway(port, admin)
    try:
        wait_for(lambda: httpx.get(f"{gateway.admin}/ready").status_code == 200, "Envoy is ready")
        yield gateway
    finally:
        gateway.client.close()
        pods.kill(name)

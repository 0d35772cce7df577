"""Real Envoys and demo backends on free loopback ports."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from chain import Chain, document, written
from local_stack import REPOSITORY, Gateway, free_port, make_config, running, wait_for
from replica import Replica

from triton_router.config import Config, load
from triton_router.stack import envoy


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start_envoy(stack: ExitStack, tmp_path: Path) -> Callable[..., Gateway]:
    """Start Envoy for a configuration, and for the router's workers at ports of this machine."""

    def start(config: Config, *ports: int) -> Gateway:
        settings = config.global_.services.envoy
        workers = [("127.0.0.1", port) for port in ports]
        bootstrap = envoy.write(config, tmp_path / "envoy", workers=workers)
        log = stack.enter_context((tmp_path / "envoy.log").open("wb"))
        command = [str(Path(sys.executable).with_name("envoy")), "-c", str(bootstrap), "-l", "warning"]
        command += ["--disable-hot-restart", "--reject-unknown-dynamic-fields"]
        command += ["--concurrency", str(settings.concurrency)] if settings.concurrency else []
        process = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        urls = f"http://127.0.0.1:{settings.port}", f"http://127.0.0.1:{settings.admin_port}"
        gateway = Gateway(tmp_path / "envoy", *urls, workers, config, process.pid)
        stack.callback(gateway.client.close)
        wait_for(lambda: httpx.get(f"{gateway.admin}/ready").status_code == 200, "Envoy ready")
        return gateway

    return start


@pytest.fixture
def start_gateway(start_envoy: Callable[..., Gateway]) -> Callable[..., Gateway]:
    """Start Envoy for models (as in ``make_config``); without ``extproc_port`` nothing answers as router.

    ``reliability`` and the rest are settings of the models and of ``global.services.envoy``.
    """

    def start(
        models: dict[str, list[str | tuple[str, int]]],
        *,
        extproc_port: int | None = None,
        second_worker: int | None = None,
        max_body_bytes: int = 100_000,
        failure_mode_allow: bool = False,
        reliability: dict[str, Any] | None = None,
        **listener: Any,
    ) -> Gateway:
        listening = {"port": free_port(), "admin_port": free_port(), "concurrency": 1}
        config = make_config(
            models,
            reliability=reliability,
            router={"max_body_bytes": max_body_bytes},
            services={"envoy": {**listening, "failure_mode_allow": failure_mode_allow, **listener}},
        )
        ports = [extproc_port or free_port(), *([second_worker] if second_worker is not None else [])]
        return start_envoy(config, *ports)

    return start


@pytest.fixture
def start_backend(stack: ExitStack, tmp_path: Path) -> Callable[..., str]:
    """Start a demo backend for the given models (any, without one) and return its ``host:port``."""

    def start(*models: str, loras: tuple[str, ...] = ()) -> str:
        port = free_port()
        command = [sys.executable, "-m", "triton_router.stack.demo_backend", "--port", str(port)]
        command += [word for model in models for word in ("--model", model)]
        command += [word for lora in loras for word in ("--lora", lora)]
        log = stack.enter_context((tmp_path / f"backend-{port}.log").open("wb"))
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=log, stderr=log)
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200, "demo backend ready")
        return f"127.0.0.1:{port}"

    return start


@pytest.fixture
def start_replica() -> Iterator[Callable[..., Replica]]:
    started: list[Replica] = []

    def start(illness: str = "", keep_alive: float | None = None) -> Replica:
        started.append(Replica(illness, keep_alive))
        return started[-1]

    yield start
    for replica in started:
        replica.close()


@pytest.fixture
def start_chain(
    stack: ExitStack, tmp_path: Path, start_envoy: Callable[..., Gateway], start_replica: Callable[..., Replica]
) -> Callable[..., Chain]:
    """Start a gateway before two models, of which the first one has an ``illness``.

    ``change`` edits the configuration before it is written; the rest is as in :func:`chain.document`.
    """

    def start(
        illness: str, replicas: int = 2, change: Callable[[dict[str, Any]], None] | None = None, **settings: Any
    ) -> Chain:
        first = [start_replica(illness) for _ in range(replicas)]
        second = [start_replica() for _ in range(replicas)]
        file = written(tmp_path / "router.yaml", document(first, second, **settings), change)
        port = stack.enter_context(running("router_of_file.py", str(file)))
        return Chain(start_envoy(load(file).config, port), first, second, file)

    return start

"""The parts that are measured, each a process of its own on loopback: Triton, routers, Envoys, one small backend."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml

from perf.load import chat_bodies, closed_loop
from router.config import load
from router.stack import envoy, triton

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "model_repository"
FIRST_PORT = 27100


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, {platform.system()}"


def command() -> str:
    return " ".join(["python -m perf", *sys.argv[1:]])


class Site:
    """Ends with ``stack`` all that it started. ``directory`` takes configurations and logs."""

    def __init__(self, directory: Path, stack: ExitStack, *, with_triton: bool = True) -> None:
        self._directory, self._stack = directory, stack
        self.backend_port, self.triton_port, self._next_port = FIRST_PORT, FIRST_PORT + 1, FIRST_PORT + 10
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._start("backend", [sys.executable, "-m", "perf.backend", str(self.backend_port)])
        if with_triton:
            metrics = FIRST_PORT + 2
            server = triton.prepare(REPOSITORY, directory, grpc_port=self.triton_port, metrics_port=metrics)
            stack.callback(server.remove_shared_memory)
            self._start("triton", list(server.command), server.environment)

    def gateway(self, name: str, document: dict[str, Any], *, with_router: bool = True, **services: Any) -> int:
        """An Envoy and its router for the configuration ``document``; returns Envoy's port.

        All its models are served by the one backend. Of answers only headers are looked at and nothing is cached,
        unless ``document`` or ``services`` (sections of ``global.services``) say otherwise.
        """
        first, self._next_port = self._next_port, self._next_port + 10
        document = json.loads(json.dumps(document))
        for model in document["providers"]["models"]:
            model["backend_refs"] = [{"endpoint": f"127.0.0.1:{self.backend_port}"}]
            model["reliability"] = {"health_check_path": None}
        stores = document.get("global", {}).get("stores", {"semantic_cache": {"enabled": False}})
        document["global"] = {
            "inference": {"endpoint": f"127.0.0.1:{self.triton_port}"},
            "services": {
                "envoy": {"port": first, "admin_port": first + 1, "concurrency": 1, **services.pop("envoy", {})},
                "extproc": {"port": first + 2},
                "api": {"port": first + 3},
                "observability": {"metrics": {"port": first + 4}, "usage": services.pop("usage", {"answers": False})},
                **services,
            },
            "stores": stores,
        }
        path = self._directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        if with_router:
            serve = [sys.executable, "-m", "router.cli", "serve", "--config", str(path)]
            self._start(f"router-{name}", [*serve, "--repository", str(REPOSITORY)])
        workers = [("127.0.0.1", first + 2)]
        bootstrap = envoy.write(load(path).config, self._directory / f"envoy-{name}", workers=workers)
        if not with_router:
            _without_ext_proc(bootstrap, document["providers"]["models"][-1]["name"])
        binary = shutil.which("envoy", path=str(Path(sys.executable).parent))
        self._start(f"envoy-{name}", [str(binary), "-c", str(bootstrap), "-l", "error", "--disable-hot-restart"])
        return first

    def metrics_url(self, gateway: int) -> str:
        return f"http://127.0.0.1:{gateway + 4}/metrics"

    def wait_until_routed(self, models: dict[int, str], seconds: float = 60) -> None:
        """Until each gateway answers for its model, and nothing is degraded."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            try:
                tried = [
                    asyncio.run(closed_loop(port, chat_bodies(["hello"], model), 1, 1))
                    for port, model in models.items()
                ]
            except (OSError, asyncio.IncompleteReadError):
                tried = []
            if tried and not any(samples.errors for samples in tried):
                return
            time.sleep(0.2)
        logs = {path.name: path.read_text()[-500:] for path in self._directory.glob("*.log")}
        raise RuntimeError(f"the stack did not come up: {json.dumps(logs, indent=1)}")

    def cpu(self, name: str) -> float:
        """Seconds of CPU that a process has used."""
        fields = Path(f"/proc/{self._started[name].pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self, name: str) -> float:
        """MiB of memory that a process holds."""
        return resident(self._started[name].pid)

    def _start(self, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
        self._started[name] = self._stack.enter_context(self._process(name, command, environment))

    @contextmanager
    def _process(
        self, name: str, command: list[str], environment: dict[str, str] | None
    ) -> Iterator[subprocess.Popen[bytes]]:
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True
            )
        try:
            yield process
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def resident(pid: int) -> float:
    """MiB of memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def _without_ext_proc(bootstrap: Path, model: str) -> None:
    """Take the filter out and send everything to the one backend: Envoy as it would be without us."""
    document = json.loads(bootstrap.read_text())
    for listener in document["static_resources"]["listeners"]:
        for chain in listener.get("filter_chains", listener.get("filterChains", [])):
            for connection_manager in chain["filters"]:
                config = connection_manager.get("typed_config", connection_manager.get("typedConfig"))
                key = "http_filters" if "http_filters" in config else "httpFilters"
                config[key] = [item for item in config[key] if "ext_proc" not in item["name"]]
                for key in ("rds", "early_header_mutation_extensions", "earlyHeaderMutationExtensions"):
                    config.pop(key, None)
                config["route_config"] = {
                    "name": "plain",
                    # The clusters come from a file, after this.
                    "validate_clusters": False,
                    "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                        {"match": {"prefix": "/"}, "route": {"cluster": envoy.cluster_name(model), "timeout": "0s"}}
                    ]}],
                }  # fmt: skip
    bootstrap.write_text(json.dumps(document))

"""The parts that are measured, each a process of its own on loopback: Triton, routers, Envoys, one small backend."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import yaml

from perf.load import chat_bodies, closed_loop
from triton_router.config import Config, load
from triton_router.config.services import EnvoySettings
from triton_router.processes import Process
from triton_router.stack import envoy, triton
from triton_router.stack.envoy import one_message
from triton_router.stack.envoy.ext_proc import with_and_without_body
from triton_router.stack.envoy.names import EXT_PROC_FILTER

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = ROOT / "model_repository"
FIRST_PORT, PORTS = 27100, 250
# Seconds that a part may take to end.
_GRACE = 10.0
# Seconds of CPU a second that parts at rest take together.
_QUIET = 0.1
Processor = Literal["router", "nothing", "nobody"]


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.processor() or platform.machine()}, {platform.system()}"


def command() -> str:
    return " ".join(["python -m perf", *sys.argv[1:]])


class Testbed:
    """Ends with ``stack`` all that it started. ``directory`` takes configurations and logs."""

    def __init__(self, directory: Path, stack: ExitStack, *, with_triton: bool = True) -> None:
        self.directory, self._stack = directory, stack
        # A part that is left over from a run that was killed would be measured instead of ours.
        for port in range(FIRST_PORT, FIRST_PORT + PORTS):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        self.backend_port, self.triton_port, self._next_port = FIRST_PORT, FIRST_PORT + 1, FIRST_PORT + 10
        self._started: dict[str, Process] = {}
        self._commands: dict[str, tuple[list[str], dict[str, str] | None, Path]] = {}
        self.start("backend", [sys.executable, "-m", "perf.backend", str(self.backend_port)])
        if with_triton:
            metrics = FIRST_PORT + 2
            server = triton.prepare(REPOSITORY, directory, grpc_port=self.triton_port, metrics_port=metrics)
            stack.callback(server.remove_shared_memory)
            self.start("triton", list(server.command), server.environment)

    def quick_triton(self, name: str, repository: Path = REPOSITORY) -> dict[str, Any]:
        """A stand-in for a Triton on a GPU (perf/quick_triton.py) that serves ``repository``; returns how to ask it.

        It shares the cores with all that is measured, which would look like a Triton that cannot keep up.
        """
        port, self._next_port = self._next_port, self._next_port + 1
        manifest = str(repository / "bundle.json")
        self.start(name, [sys.executable, "-m", "perf.quick_triton", str(port), manifest])
        return {"endpoint": f"127.0.0.1:{port}", "adaptive_limit": False}

    def slow_backends(self, models: Sequence[str]) -> dict[str, int]:
        """A backend of its own for each model, which can be slowed down (perf/slow_backend.py); returns their ports."""
        ports = {model: self.backend_port + 3 + number for number, model in enumerate(models)}
        for model, port in ports.items():
            self.start(f"backend-{model}", [sys.executable, "-m", "perf.slow_backend", str(port)])
        return ports

    def gateway(
        self,
        name: str,
        document: dict[str, Any],
        *,
        processor: Processor = "router",
        backends: Mapping[str, Sequence[int]] | None = None,
        inference: Mapping[str, Any] | None = None,
        repository: Path = REPOSITORY,
        watched_by: Literal["sampled", "steps"] | None = None,
        followed: bool = False,
        extproc: Mapping[str, Any] | None = None,
        usage: Mapping[str, Any] | None = None,
        **services: Mapping[str, Any],
    ) -> int:
        """An Envoy and its router for the configuration ``document``; returns Envoy's port.

        ``processor`` is what Envoy asks: our router, an ext_proc that does nothing (perf/passthrough.py), or nobody.
        All its models are served by the one backend, or by those whose ports ``backends`` has by model. Nothing is
        cached, and all else is as the product ships, unless ``document`` or ``services`` (sections of
        ``global.services``) say otherwise. ``inference`` adds to ``global.inference``; ``repository`` is what its
        Triton serves. A module of perf that the router is ``watched_by`` reports on it when it ends. A router that is
        ``followed`` keeps Envoy's files in step with its configuration.
        """
        first, self._next_port = self._next_port, self._next_port + 10
        document = json.loads(json.dumps(document))
        for model in document["providers"]["models"]:
            ports = (backends or {}).get(model["name"], [self.backend_port])
            model["backend_refs"] = [{"endpoint": f"127.0.0.1:{port}"} for port in ports]
            model["reliability"] = {"health_check_path": None}
        stores = document.get("global", {}).get("stores", {"semantic_cache": {"enabled": False}})
        document["global"] = {
            "inference": {"endpoint": f"127.0.0.1:{self.triton_port}", **(inference or {})},
            "services": {
                "envoy": {"port": first, "admin_port": first + 1, "concurrency": 1, **services.pop("envoy", {})},
                "api": {"port": first + 3},
                "observability": {"metrics": {"port": first + 4}, "usage": usage or {}},
                "extproc": {"port": first + 5, **(extproc or {})},
                **services,
            },
            "stores": stores,
        }
        path = self.directory / f"{name}.yaml"
        path.write_text(yaml.safe_dump(document))
        if processor == "router":
            program = [f"perf.{watched_by}", str(self.report(name))] if watched_by else ["triton_router.cli"]
            serve = [sys.executable, "-m", *program, "serve", "--config", str(path), "--repository", str(repository)]
            serve += ["--envoy-directory", str(self.directory / f"envoy-{name}")] if followed else []
            self.start(f"router-{name}", serve)
        elif processor == "nothing":
            self.start(f"nothing-{name}", [sys.executable, "-m", "perf.passthrough", str(first + 5)])
        workers = [
            ("127.0.0.1", first + 5 + number) for number in range(load(path).config.global_.services.extproc.workers)
        ]
        bootstrap = envoy.write(load(path).config, self.directory / f"envoy-{name}", workers=workers)
        if processor != "router":
            _without_router(bootstrap, document["providers"]["models"][-1]["name"], keep_filter=processor == "nothing")
        binary = shutil.which("envoy", path=str(Path(sys.executable).parent))
        self.start(f"envoy-{name}", [str(binary), "-c", str(bootstrap), "-l", "error", "--disable-hot-restart"])
        return first

    def report(self, name: str) -> Path:
        """Where the watched router of that gateway says what was seen of it, once it has ended."""
        return self.directory / f"{name}-report.json"

    def extproc_port(self, gateway: int) -> int:
        """Where the first worker listens of the router behind that port of Envoy's."""
        return gateway + 5

    def rest_port(self, gateway: int) -> int:
        """Where the REST service listens of the router behind that port of Envoy's."""
        return gateway + 3

    def metrics_url(self, gateway: int) -> str:
        return f"http://127.0.0.1:{gateway + 4}/metrics"

    def wait_until_routed(self, models: dict[int, str], seconds: float = 180) -> None:
        """Until each gateway answers for its model, and nothing is degraded; at once an error when a part has ended."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and not self.ended:
            try:
                probes = [
                    asyncio.run(closed_loop(port, chat_bodies(["hello"], model), 1, 1))
                    for port, model in models.items()
                ]
            except (OSError, asyncio.IncompleteReadError):
                probes = []
            # A part that could not listen ends a little later than another's answer comes from its port.
            if probes and not any(samples.errors for samples in probes) and not self.ended:
                return
            time.sleep(0.2)
        raise RuntimeError(f"the stack did not come up; {self.account()}")

    def account(self) -> str:
        """What has become of the parts, for an error."""
        logs = {path.name: path.read_text()[-500:] for path in self.directory.glob("*.log")}
        return f"parts that ended: {', '.join(self.ended) or 'none'}; {json.dumps(logs, indent=1)}"

    def wait_until_quiet(self, seconds: float = 120) -> None:
        """Until what was started has nothing more to do by itself: workers that start late would be measured too."""
        ends = time.monotonic() + seconds
        busy = float("inf")
        while busy > _QUIET and time.monotonic() < ends:
            before = sum(map(self.cpu, self._started))
            time.sleep(1)
            busy = sum(map(self.cpu, self._started)) - before

    @property
    def ended(self) -> list[str]:
        """Names of parts that have ended by themselves."""
        return [name for name, process in self._started.items() if process.code is not None]

    def cpu(self, name: str) -> float:
        """Seconds of CPU that a part has used, in all its processes."""
        return sum(cpu(pid) for pid in self._members(name))

    def resident(self, name: str) -> float:
        """MiB of memory that a part holds, in all its processes; pages that they share count for each."""
        return sum(resident(pid) for pid in self._members(name))

    def pid(self, name: str) -> int:
        return self._started[name].pid

    @property
    def parts(self) -> list[str]:
        """Names of all that was started."""
        return list(self._started)

    def start(
        self, name: str, command: list[str], environment: dict[str, str] | None = None, directory: Path = ROOT
    ) -> None:
        """Start a part that ends with this testbed; its log is ``NAME.log``."""
        self._commands[name] = (command, environment, directory)
        process = Process(command, self.directory / f"{name}.log", environment=environment, directory=directory)
        self._stack.callback(process.end, _GRACE)
        self._started[name] = process

    def end(self, name: str) -> None:
        self._started.pop(name).end(_GRACE)

    def restart(self, name: str) -> None:
        """Start a part again that was ended; its log begins anew."""
        self.start(name, *self._commands[name])

    def _members(self, name: str) -> list[int]:
        """Each part has a session of its own, which its children share."""
        leader, members = self._started[name].pid, []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _session(int(entry.name)) == leader:
                members.append(int(entry.name))
        return members


def resident(pid: int) -> float:
    """MiB of memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    # A process that has ended and was not waited for has none.
    line = next((line for line in status.splitlines() if line.startswith("VmRSS")), "VmRSS: 0 kB")
    return int(line.split()[1]) / 1024


def cpu(pid: int) -> float:
    """Seconds of CPU that a process has used, to the nanosecond; none where it has ended.

    Each process has a clock of its own, whose number is its id inverted, shifted by three, with 2 for what the
    scheduler counts (clock_getcpuclockid(3)). `/proc` has the same in ticks of 10 ms.
    """
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _without_router(bootstrap: Path, model: str, *, keep_filter: bool) -> None:
    """Send everything to the one backend, whatever ext_proc says; without the filter: Envoy as it would be alone."""
    document = json.loads(bootstrap.read_text())
    route = {"match": {"prefix": "/"}, "route": {"cluster": envoy.cluster_name(model), "timeout": "0s"}}
    routes = with_and_without_body(route, EnvoySettings()) if keep_filter else [route]
    hosts = [{"name": "all", "domains": ["*"], "routes": routes}]
    # The clusters come from a file, after this.
    plain = {"name": "plain", "validate_clusters": False, "virtual_hosts": hosts}
    for listener in document["static_resources"]["listeners"]:
        for chain in listener["filter_chains"]:
            for manager in chain["filters"]:
                config = manager["typed_config"]
                if not keep_filter:
                    ours = {each["name"] for each in one_message.around({"name": EXT_PROC_FILTER}, Config())}
                    config["http_filters"] = [each for each in config["http_filters"] if each["name"] not in ours]
                for key in ("rds", "early_header_mutation_extensions"):
                    config.pop(key, None)
                config["route_config"] = plain
    bootstrap.write_text(json.dumps(document))

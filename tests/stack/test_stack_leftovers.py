"""What `triton-router serve` leaves in the directory for temporary files: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from local_stack import PATIENCE, REPOSITORY, free_port, wait_for


class Serve:
    """`serve` without Triton, with a directory for temporary files that others may share."""

    def __init__(self, directory: Path, temporary: Path, workers: int) -> None:
        self.temporary = temporary
        first, _ = free_port(), free_port()
        self._rest = free_port()
        services = {
            "extproc": {"port": first, "workers": workers, "wire": "grpcio"},
            "api": {"port": self._rest},
            "observability": {"metrics": {"port": free_port()}},
        }
        document = yaml.safe_load((REPOSITORY / "config" / "quickstart.yaml").read_text())
        document["global"] = {"services": services, "inference": {"endpoint": f"127.0.0.1:{free_port()}"}}
        config = directory / f"{first}.yaml"
        config.write_text(yaml.safe_dump(document))
        self.log = directory / f"{first}.log"
        command = [sys.executable, "-m", "triton_router.cli", "serve", "--config", str(config)]
        command += ["--repository", str(REPOSITORY / "model_repository")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, env={**os.environ, "TMPDIR": str(temporary)}, stdout=log, stderr=log
            )

    def wait(self) -> None:
        url = f"http://127.0.0.1:{self._rest}/health"
        wait_for(lambda: "serving" in self.log.read_text() and httpx.get(url).status_code == 200, "serving")

    def left(self) -> set[str]:
        return {path.name for path in self.temporary.iterdir()}


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[int], Serve]]:
    started: list[Serve] = []
    temporary = tmp_path / "temporary"
    temporary.mkdir()

    def start(workers: int) -> Serve:
        started.append(Serve(tmp_path, temporary, workers))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(serve: Callable[[int], Serve], workers: int, number: signal.Signals) -> None:
    router = serve(workers)
    router.wait()
    assert router.left() != set()
    router.process.send_signal(number)
    assert router.process.wait(PATIENCE) == 0, router.log.read_text()
    assert router.left() == set()


def test_a_signal_while_it_starts_leaves_nothing(serve: Callable[[int], Serve]) -> None:
    router = serve(2)
    wait_for(lambda: router.left() != set(), "a directory")
    router.process.send_signal(signal.SIGTERM)
    assert router.process.wait(PATIENCE) == 0, router.log.read_text()
    assert router.left() == set()


def test_the_next_one_takes_away_what_a_killed_one_left_and_nothing_else(serve: Callable[[int], Serve]) -> None:
    killed = serve(1)
    killed.wait()
    dead = killed.left()
    living = serve(1)
    living.wait()
    (killed.temporary / "triton-router-of-somebody").mkdir()
    (killed.temporary / "triton-router-of-somebody" / "lock").touch()
    survivors = killed.left() - dead
    assert len(dead) == 1 and len(survivors) == 2
    killed.process.kill()
    killed.process.wait()
    assert killed.left() == dead | survivors
    last = serve(1)
    last.wait()
    assert dead.isdisjoint(last.left()) and survivors < last.left()

"""Background tasks that end, reloads that fail for a while, and probes that see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from triton_router import reload, supervision
from triton_router.api.app import create_app
from triton_router.config import Config, Loaded, load, loads
from triton_router.config.observability import MetricsSettings
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.reload import Reloader
from triton_router.serve import _metrics
from triton_router.supervision import Tasks
from triton_router.telemetry import Metrics, SummedMetrics, samples

BUNDLE = Path(__file__).parents[1] / "model_repository" / "bundle.json"
CONFIG = """
providers:
  models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:9"}]}]
global:
  router: {reload: {interval_seconds: 0.02}}
  inference: {endpoint: "127.0.0.1:9"}
"""


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(supervision, "STEADY_SECONDS", 0.2)
    monkeypatch.setattr(reload, "RETRY_SECONDS", 0.05)


@pytest.mark.usefixtures("quick")
async def test_a_task_that_ends_is_started_again_and_can_be_seen() -> None:
    metrics = Metrics()
    generations = Generations(loads(CONFIG), *load_bundle(BUNDLE), metrics)
    tasks, runs = Tasks(metrics), list[int]()

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) == 1:
            raise OverflowError("cannot convert float infinity to integer")
        if len(runs) > 2:
            await asyncio.Event().wait()

    transport = httpx.ASGITransport(create_app(lambda: generations.current, troubles=lambda: tasks.failures))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as rest, tasks.running(follow=work):
        await until(lambda: len(runs) == 1 and bool(tasks.failures))
        state = (await rest.get("/ready")).json()
        assert state["ready"] is True
        assert state["degraded"]["follow"] == "OverflowError: cannot convert float infinity to integer"
        await until(lambda: len(runs) == 3)
        assert metrics.registry.get_sample_value("router_task_restarts_total", {"task": "follow"}) == 2
        await until(lambda: not tasks.failures)
        assert "follow" not in (await rest.get("/ready")).json()["degraded"]


class Reluctant:
    """A gateway whose files cannot be written at first."""

    def __init__(self) -> None:
        self.refusals, self.widened = 2, list[Config]()

    async def widen(self, config: Config) -> None:
        if self.refusals:
            self.refusals -= 1
            raise PermissionError(13, "Permission denied")
        self.widened.append(config)

    async def narrow(self, config: Config) -> None:
        raise PermissionError(13, "Permission denied")


class Anybody:
    async def prepare(self, loaded: Loaded) -> None:
        pass

    async def commit(self) -> None:
        pass

    async def drained(self) -> None:
        pass


@pytest.mark.usefixtures("quick")
async def test_a_reload_that_fails_is_tried_again(tmp_path: Path) -> None:
    path, gateway = tmp_path / "router.yaml", Reluctant()
    path.write_text(CONFIG)
    first = load(path)
    reloader = Reloader(path, first, lambda: [Anybody()], Metrics(), gateway)
    running = asyncio.create_task(reloader.run())
    path.write_text(CONFIG + "# changed\n")
    await until(lambda: bool(reloader.rejected))
    assert reloader.rejected == ["PermissionError: [Errno 13] Permission denied"]
    await until(lambda: not reloader.rejected)
    assert reloader.current is not first and len(gateway.widened) == 1
    path.write_text(CONFIG + "# changed again\n")
    await until(lambda: len(gateway.widened) == 2)
    running.cancel()


async def test_liveness_is_not_that_of_the_thread_that_serves_metrics(unused_tcp_port: int) -> None:
    alive = [True]
    registry = CollectorRegistry()
    async with (
        _metrics(MetricsSettings(port=unused_tcp_port), registry, lambda: alive[0]),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}") as http,
    ):
        assert (await http.get("/live")).status_code == 200
        alive[0] = False
        assert (await http.get("/live")).status_code == 503
        assert (await http.get("/metrics")).status_code == 200


def test_the_metrics_of_several_processes_are_one() -> None:
    own, other = Metrics(), Metrics()
    sums = SummedMetrics(own.registry, lambda: None)
    registry = CollectorRegistry()
    registry.register(sums)
    own.encoder_up.labels("minilm").set(1)
    other.encoder_up.labels("minilm").set(0)
    other.requests.labels("math", "base", "upstream", "").inc(3)
    other.stage_seconds.labels("total").observe(0.003)
    other.in_flight.inc(2)
    sums.update(7, samples(other.registry))

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    routed = {"decision": "math", "model": "base", "path": "upstream", "recipe": ""}
    assert value("router_requests_total", **routed) == 3
    assert value("router_stage_seconds_bucket", stage="total", le="0.005") == 1
    assert (value("router_encoder_up", trunk="minilm"), value("router_in_flight_requests")) == (0, 2)
    sums.forget(7)
    # Counts stay, as they do not fall; what is so of a living process only goes with it.
    assert value("router_requests_total", **routed) == 3
    assert (value("router_encoder_up", trunk="minilm"), value("router_in_flight_requests")) == (1, 0)

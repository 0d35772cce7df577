"""What the health view asks: parts as they are, with Triton's own figures, bounded where backends may say a lot."""

from __future__ import annotations

from typing import Any

import httpx
from page_state import BUNDLE, service_state

from triton_router.api.app import create_app
from triton_router.config import Loaded, loads
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.inference.statistics import ModelLoad, Statistics
from triton_router.selection import LoadedAdapters
from triton_router.telemetry import Metrics

CONFIG = """
providers:
  models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:1"}]}, {name: silent, backend_refs: [{endpoint: "127.0.0.1:2"}]}]
routing:
  modelCards: [{name: base, loras: [{name: law}, {name: health}]}, {name: silent, loras: [{name: law}]}]
  signals: {domains: [{name: law}]}
  decisions: [{name: all, rules: {operator: OR, conditions: [{type: domain, name: law}]}, modelRefs: [{model: base}]}]
global: {inference: {endpoint: "127.0.0.1:9"}}
"""  # noqa: E501


class Service:
    def __init__(self, text: str = CONFIG, **changes: Any) -> None:
        self.loaded: Loaded = loads(text, file="/etc/router/router.yaml")
        metrics = Metrics()
        self.generations = Generations(self.loaded, *load_bundle(BUNDLE), metrics)
        self.state = service_state(self.loaded, self.generations, metrics, **changes)
        self.app = create_app(
            lambda: self.generations.current, state=self.state, troubles=lambda: {"task load": "ended"}
        )

    async def status(self) -> Any:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://router") as rest:
            return (await rest.get("/api/v1/status")).json()


async def test_a_triton_that_is_away_is_said_with_the_reason() -> None:
    service = Service()
    (encoder, *_) = service.generations.encoders
    await encoder.probe(_nothing)
    await service.state.statistics.look()
    status = await service.status()
    trunk = status["trunks"][0]
    assert (trunk["ready"], trunk["failure"], trunk["load"]) == (False, "unreachable", None)
    assert "127.0.0.1:9" in trunk["detail"]
    assert list(status["triton"]["failures"]) == ["127.0.0.1:9"]
    assert status["troubles"] == {"task load": "ended"}


async def _nothing() -> None:
    return None


async def test_tritons_figures_and_the_routers_limit_stand_with_their_trunk() -> None:
    statistics = Statistics("127.0.0.1:9", ())
    service = Service(statistics=statistics)
    model = next(iter(service.generations.encoders)).trunk.model
    statistics.loads = {model: ModelLoad(200.0, 0, 1.5, 7.5, 3.0, 2.0)}
    service.state.feed.history.look()
    status = await service.status()
    trunk = status["trunks"][0]
    assert (trunk["load"]["waiting"], trunk["load"]["queue_ms"]) == (1.5, 7.5)
    assert trunk["calls"] == {"limit": 64, "in_flight": 0}
    assert all(other["load"] is None for other in status["trunks"][1:])


async def test_adapters_are_those_that_backends_have() -> None:
    service = Service()
    others = {f"tenant-{number:05}" for number in range(10_000)}
    service.generations.know(LoadedAdapters({"base": frozenset({"law", *others})}))
    base, silent = (await service.status())["backends"]
    assert (base["declared"], base["missing"], base["loaded"]) == (["law", "health"], ["health"], 10_001)
    assert base["others"] == sorted(others)[:20]
    assert (silent["loaded"], silent["missing"]) == (None, [])

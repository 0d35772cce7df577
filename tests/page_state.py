"""The state of a service for the views of its page, without the service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from triton_router.api.history import History
from triton_router.api.live import LiveFeed
from triton_router.api.state import ServiceState
from triton_router.config import Loaded
from triton_router.generations import Generations
from triton_router.inference.statistics import Statistics
from triton_router.telemetry import Metrics

BUNDLE = Path(__file__).parents[1] / "model_repository" / "bundle.json"


def service_state(loaded: Loaded, generations: Generations, metrics: Metrics, **changes: Any) -> ServiceState:
    """One process that has recorded nothing."""

    async def recorded(most: int) -> list[dict[str, Any]]:
        return []

    async def count_recorded() -> int:
        return 0

    usual = {
        "loaded": lambda: loaded,
        "since": lambda: 0.0,
        "bundle": BUNDLE,
        "recorded": recorded,
        "count_recorded": count_recorded,
        "feed": LiveFeed(lambda: [generations.live], History(metrics.registry)),
        "workers": dict,
        "statistics": Statistics("127.0.0.1:9", ()),
    }
    return ServiceState(**{**usual, **changes})

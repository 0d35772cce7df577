"""What the views of the page need and a pipeline does not know."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triton_router.api.live import LiveFeed
from triton_router.config import Loaded
from triton_router.inference.statistics import Statistics


async def no_probes() -> list[dict[str, Any]]:
    return []


@dataclass(frozen=True, slots=True)
class ServiceState:
    """The service as its supervisor sees it.

    ``loaded`` returns the configuration in force and ``since`` when it came into force, ``recorded`` the last records
    of all processes and ``count_recorded`` how many there are, ``workers`` whether each worker is ready, by port.
    ``probes`` returns the requests of the configuration's file of probes, and raises ConfigError where that is wrong.
    ``bundle`` is the path of the signal bundle's manifest, ``statistics`` what Triton says.
    """

    loaded: Callable[[], Loaded]
    since: Callable[[], float]
    bundle: Path
    recorded: Callable[[int], Awaitable[list[dict[str, Any]]]]
    count_recorded: Callable[[], Awaitable[int]]
    feed: LiveFeed
    workers: Callable[[], Mapping[int, bool]]
    statistics: Statistics
    probes: Callable[[], Awaitable[list[dict[str, Any]]]] = no_probes

"""Several things measured in turn, round after round, so that what disturbs the machine disturbs all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from perf.load import Samples, at
from perf.testbed import Testbed

# As a rung's part: the process that measures, and asks.
CLIENT = "client"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True)
class Rung:
    """``ask`` measures once, given the number of the round.

    ``part`` is the process whose CPU counts for it, ``stack`` are all that serve it: what the whole task costs.
    """

    ask: Callable[[int], Awaitable[Samples]]
    part: str | None = None
    stack: tuple[str, ...] = ()


@dataclass
class Series:
    """What the rounds of one rung have measured; ``cpu`` in seconds a round, ``stack`` by process in all rounds."""

    rounds: list[Samples] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    stack: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """p50, p90, p99 and rate are medians over the rounds; p99.9 and the maximum are of all requests together.

        ``spread`` is the lowest and highest p50 of a round. p99.9 of less than a thousand requests is left out: it
        would be the maximum by another name. ``p99_of_all`` is of all requests together, where they are enough.
        """
        together = [ms for samples in self.rounds for ms in samples.ms]
        row: dict[str, Any] = {
            "requests": len(together),
            "errors": sum(samples.errors for samples in self.rounds),
            "hits": sum(samples.hits for samples in self.rounds),
            "per_second": statistics.median(samples.per_second for samples in self.rounds),
            "p99_of_all": at(together, 0.99) if len(together) >= 1000 else None,
            "p999": at(together, 0.999) if len(together) >= 1000 else None,
            "max": max(together, default=None),
        }
        for name, quantile in QUANTILES.items():
            each = [value for samples in self.rounds if (value := at(samples.ms, quantile)) is not None]
            row[name] = statistics.median(each) if each else None
            if name == "p50":
                row["spread"] = [min(each), max(each)] if each else None
        for part in ("encoder_ms", "router_ms"):
            values = [ms for samples in self.rounds for ms in getattr(samples, part)]
            row |= {f"{part[:-3]}_{name}": at(values, quantile) for name, quantile in QUANTILES.items()}
        if self.cpu:
            row["cpu_ms"] = sum(self.cpu) * 1000 / max(len(together), 1)
        if self.stack:
            row["parts_ms"] = {part: used * 1000 / max(len(together), 1) for part, used in self.stack.items()}
            row["stack_ms"] = sum(row["parts_ms"].values())
        return row


async def interleaved(testbed: Testbed, rungs: Mapping[str, Rung], rounds: int) -> dict[str, Series]:
    """Measure each rung once a round; every second round goes backwards."""
    series = {name: Series() for name in rungs}
    for number in range(rounds):
        for name in list(rungs) if number % 2 == 0 else reversed(list(rungs)):
            rung = rungs[name]
            before, stack = _cpu(testbed, rung.part), {part: testbed.cpu(part) for part in rung.stack}
            series[name].rounds.append(await rung.ask(number))
            # A process that ended meanwhile takes its seconds with it.
            if rung.part:
                series[name].cpu.append(max(_cpu(testbed, rung.part) - before, 0.0))
            for part, used in stack.items():
                more = max(testbed.cpu(part) - used, 0.0)
                series[name].stack[part] = series[name].stack.get(part, 0.0) + more
        print(f"round {number + 1} of {rounds} done", flush=True)
    return series


def _cpu(testbed: Testbed, part: str | None) -> float:
    if part is None:
        return 0.0
    return time.process_time() if part == CLIENT else testbed.cpu(part)

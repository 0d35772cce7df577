"""The last hour in memory: what the metrics of all processes counted in each span of some seconds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry

log = logging.getLogger(__name__)

SECONDS, SPANS = 10.0, 360

_COUNTERS = {
    "router_requests_total": "requests",
    "router_degraded_requests_total": "degraded",
    "router_cache_lookups_total": "cache",
    "router_tokens_total": "tokens",
    "router_cost_total": "cost",
}
_GAUGES = {
    "router_in_flight_requests": "in_flight",
    "router_queue_seconds": "queue_seconds",
}
_GAUGES_OF_TRUNKS = {
    "router_encoder_in_flight": "in_flight",
    "router_encoder_limit": "limit",
}
_STAGES = "router_stage_seconds_bucket"
# Labels that tell counts apart here; over the others they are summed.
_LABELS = {"requests": ("decision", "model", "path"), "degraded": ("part",), "cache": ("result",),
           "tokens": ("kind",), "cost": ("currency",)}  # fmt: skip

Key = tuple[str, tuple[str, ...]]


class History:
    """``registry`` is the one that Prometheus reads. ``trunks`` are the gauges of each trunk on Triton."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float] = time.time) -> None:
        self.spans: deque[dict[str, Any]] = deque(maxlen=SPANS)
        self.gauges: dict[str, float] = {}
        self.trunks: dict[str, dict[str, float]] = {}
        self._registry, self._clock = registry, clock
        self._counts: dict[Key, float] | None = None
        self._at = clock()

    async def run(self) -> None:
        """Look at the metrics every :data:`SECONDS`, until cancelled."""
        while True:
            # In a thread: the metrics of other processes may have to be asked for.
            await asyncio.to_thread(self.look)
            await asyncio.sleep(SECONDS)

    def look(self) -> None:
        """End a span. The first look only learns where the counters stand."""
        counts, now = self._read(), self._clock()
        before, self._counts = self._counts, counts
        seconds, self._at = now - self._at, now
        if before is not None:
            # A counter that went back was started anew.
            delta = {key: value - before.get(key, 0.0) for key, value in counts.items()}
            grown = {key: value if value >= 0 else counts[key] for key, value in delta.items() if value}
            self.spans.append(_span(now, seconds, grown))

    def _read(self) -> dict[Key, float]:
        counts: defaultdict[Key, float] = defaultdict(float)
        gauges: defaultdict[str, float] = defaultdict(float)
        trunks: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for family in self._registry.collect():
            for sample in family.samples:
                if (name := _COUNTERS.get(sample.name)) is not None:
                    counts[name, tuple(sample.labels[label] for label in _LABELS[name])] += sample.value
                elif sample.name == _STAGES:
                    counts["stages", (sample.labels["stage"], sample.labels["le"])] += sample.value
                elif (name := _GAUGES.get(sample.name)) is not None:
                    gauges[name] += sample.value
                elif (name := _GAUGES_OF_TRUNKS.get(sample.name)) is not None:
                    trunks[sample.labels["trunk"]][name] = sample.value
        self.gauges, self.trunks = dict(gauges), dict(trunks)
        return dict(counts)


def _span(now: float, seconds: float, grown: Mapping[Key, float]) -> dict[str, Any]:
    span: dict[str, Any] = {"time": now, "seconds": seconds, "requests": [], "stages": {}}
    span |= {name: {} for name in ("degraded", "cache", "tokens", "cost")}
    buckets: defaultdict[str, dict[float, float]] = defaultdict(dict)
    for (name, labels), value in grown.items():
        if name == "stages":
            buckets[labels[0]][float(labels[1])] = value
        elif name == "requests":
            span["requests"].append([*labels, value])
        else:
            span[name][labels[0]] = value
    for stage, counts in buckets.items():
        span["stages"][stage] = {"p50": quantile(counts, 0.5), "p95": quantile(counts, 0.95)}
    return span


def quantile(buckets: Mapping[float, float], share: float) -> float | None:
    """Milliseconds that ``share`` of the observations did not exceed; ``None`` without observations.

    ``buckets`` count what is not over their bound in seconds; those that count nothing may be missing. Interpolated
    inside a bucket, as Prometheus does; what lies beyond the last bound counts as that.
    """
    total = buckets.get(float("inf"), 0.0)
    if not total:
        return None
    rank, lower, below = total * share, 0.0, 0.0
    for upper in sorted(buckets):
        count = buckets[upper]
        if count >= rank:
            if upper == float("inf"):
                return round(lower * 1000, 3)
            return round((lower + (upper - lower) * (rank - below) / (count - below)) * 1000, 3)
        lower, below = upper, count
    return round(lower * 1000, 3)

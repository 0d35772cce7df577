"""Times by one label, counted in buckets: what each stage of each request adds to, so it has to be quick."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Timing:
    """The times under one value of the label, in seconds. One thread adds, any thread reads."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count a time."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds


class Timings(Collector):
    """A histogram, as Prometheus reads it. `prometheus_client`'s own takes a lock for each of three values."""

    def __init__(
        self, name: str, documentation: str, label: str, *, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation, self._label, self._buckets = name, documentation, label, tuple(buckets)
        self._timings: dict[str, Timing] = {}
        registry.register(self)

    def labels(self, value: str) -> Timing:
        """The times under ``value``."""
        timing = self._timings.get(value)
        if timing is None:
            timing = self._timings[value] = Timing(self._buckets)
        return timing

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, timing in list(self._timings.items()):
            counts, total, below, buckets = list(timing.counts), timing.total, 0, []
            for bound, count in zip((*map(str, self._buckets), "+Inf"), counts, strict=True):
                below += count
                buckets.append((bound, below))
            family.add_metric([value], buckets, total)
        yield family

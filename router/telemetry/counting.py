"""Counts and times by labels, of which every request adds some: `prometheus_client`'s own are slower at that.

Theirs look a label up under a lock, in 2 µs, and take three more locks for one time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class Counter(prometheus_client.Counter):
    """Prometheus' counter, which remembers what a list of labels led to."""

    _children: dict[tuple[Any, ...], Any]

    def labels(self, *values: Any, **named: Any) -> Any:
        if named:
            return super().labels(*values, **named)
        try:
            return self._children[values]
        except AttributeError:
            self._children = {}
        except KeyError:
            pass
        child = self._children[values] = super().labels(*values)
        return child


class Timing:
    """The times under one set of labels, in seconds. One thread adds, any thread reads."""

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
    """A histogram, as Prometheus reads it."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        buckets: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._documentation, self._labels, self._buckets = name, documentation, labels, tuple(buckets)
        self._timings: dict[tuple[str, ...], Timing] = {}
        registry.register(self)

    def labels(self, *values: str) -> Timing:
        """The times under ``values``."""
        timing = self._timings.get(values)
        if timing is None:
            timing = self._timings[values] = Timing(self._buckets)
        return timing

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        for values, timing in list(self._timings.items()):
            counts, total, below, buckets = list(timing.counts), timing.total, 0, []
            for bound, count in zip((*map(str, self._buckets), "+Inf"), counts, strict=True):
                below += count
                buckets.append((bound, below))
            family.add_metric(values, buckets, total)
        yield family

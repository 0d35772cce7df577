"""The metrics of several processes as one.

They come over the pipes that the processes have anyway, not by files: a full disk then costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Lock

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

Samples = dict[str, list[tuple[str, dict[str, str], float]]]
"""By the metric's name: each sample's own name, labels and value. Fit for JSON."""

# Gauges of which a sum says nothing. All other metrics are added up.
_ONE_OF_ALL: dict[str, Callable[[Iterable[float]], float]] = {
    "router_encoder_up": min,
    "router_queue_seconds": max,
    "router_config_rejected": max,
    "router_adapters_loaded": max,
}
_COUNTED = ("counter", "histogram")


def samples(registry: CollectorRegistry) -> Samples:
    """What ``registry`` holds now, without times of creation, which have no sum."""
    return {
        metric.name: [
            (sample.name, sample.labels, sample.value)
            for sample in metric.samples
            if not sample.name.endswith("_created")
        ]
        for metric in registry.collect()
    }


class SummedMetrics(Collector):
    """Register it, and scrape; ``refresh`` is called first, in the scraping thread.

    A process whose samples are forgotten leaves its counts behind, so that no sum falls.
    """

    def __init__(self, own: CollectorRegistry, refresh: Callable[[], None]) -> None:
        self._own, self._refresh = own, refresh
        self._living: dict[int, Samples] = {}
        self._ended: list[Samples] = []
        self._lock = Lock()

    def update(self, process: int, latest: Samples) -> None:
        """Take the samples of a process, known by any number of its own."""
        with self._lock:
            self._living[process] = latest

    def forget(self, process: int) -> None:
        """The process has ended."""
        with self._lock:
            if process not in self._living:
                return
            last = self._living.pop(process)
            counts = {metric.name for metric in self._own.collect() if metric.type in _COUNTED}
            self._ended = [_summed([*self._ended, {name: last[name] for name in last.keys() & counts}])]

    def collect(self) -> Iterator[Metric]:
        self._refresh()
        with self._lock:
            summed = _summed([samples(self._own), *self._living.values(), *self._ended])
        for metric in self._own.collect():
            metric.samples = []
            for name, labels, value in summed.get(metric.name, ()):
                metric.add_sample(name, labels, value)
            yield metric


def _summed(parts: list[Samples]) -> Samples:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _one([part.get(name, []) for part in parts], _ONE_OF_ALL.get(name, sum)) for name in names}


def _one(
    parts: list[list[tuple[str, dict[str, str], float]]], rule: Callable[[Iterable[float]], float]
) -> list[tuple[str, dict[str, str], float]]:
    values: dict[tuple[str, tuple[tuple[str, str], ...]], list[float]] = {}
    for part in parts:
        for name, labels, value in part:
            values.setdefault((name, tuple(labels.items())), []).append(value)
    return [(name, dict(labels), rule(each)) for (name, labels), each in values.items()]

"""What the backends say of their load: `/metrics` of vLLM, polled once for all workers; and all vitals as metrics."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from triton_router import breakers, polling
from triton_router.config import Config
from triton_router.config.schema import ProviderModel
from triton_router.vitals import Field, Vitals

PATH = "/metrics"
# Backends asked at once.
AT_ONCE = 16
# The second of the two names of the cache is that of vLLM's first engine.
_SAMPLE = re.compile(
    rb"^vllm:(num_requests_waiting|kv_cache_usage_perc|gpu_cache_usage_perc)(?:\{[^}\n]*\})?[ \t]+([0-9.eE+-]+)",
    re.MULTILINE,
)
_MEASURES = {Field.FIRST: "first_token", Field.WHOLE: "answer", Field.TOKEN: "output_token"}


class LoadPoll:
    """Writes into ``vitals`` what the backends say. ``current`` is the configuration in use; ``addresses`` maps an
    endpoint to where it really is, where that differs."""

    def __init__(
        self, current: Callable[[], Config], vitals: Vitals, addresses: Mapping[str, str] | None = None
    ) -> None:
        self._current, self._vitals, self._addresses = current, vitals, addresses or {}
        self._few = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            settings = self._current().global_.router.load
            if settings.enabled:
                await self.ask()
            await asyncio.sleep(settings.interval_seconds)

    async def ask(self) -> None:
        """Ask every backend of a model that some algorithm may choose."""
        config = self._current()
        chosen = {ref.model for each in config.decisions() if each.algorithm is not None for ref in each.modelRefs}
        seconds = config.global_.router.load.timeout_seconds
        await asyncio.gather(*(self._of(model, seconds) for model in config.providers.models if model.name in chosen))

    async def _of(self, model: ProviderModel, seconds: float) -> None:
        endpoints = [ref.endpoint for ref in model.backend_refs if not ref.external and ref.protocol == "http"]
        answers = await asyncio.gather(*(self._load_of(self._addresses.get(each, each), seconds) for each in endpoints))
        loads = [answer for answer in answers if answer is not None]
        if loads:
            row = self._vitals.row(model.name)
            row[Field.QUEUE] = sum(queue for queue, _ in loads)
            row[Field.KV_USAGE] = sum(usage for _, usage in loads) / len(loads)
            row[Field.POLLED_AT] = time.monotonic()

    async def _load_of(self, address: str, seconds: float) -> tuple[float, float] | None:
        async with self._few:
            body = await polling.get(address, PATH, seconds)
        return load_in(body) if body is not None else None


def load_in(metrics: bytes) -> tuple[float, float] | None:
    """Requests that wait, and the share of the KV cache in use, of all engines of a server; ``None`` if it is no vLLM.

    The names are those of vLLM: `vllm:num_requests_waiting`, and `vllm:kv_cache_usage_perc` or, before that,
    `vllm:gpu_cache_usage_perc`.
    """
    samples = [(name, float(value)) for name, value in _SAMPLE.findall(metrics)]
    if not samples:
        return None
    usage = [value for name, value in samples if name != b"num_requests_waiting"]
    waiting = sum(value for name, value in samples if name == b"num_requests_waiting")
    return waiting, max(usage, default=0.0)


class VitalsMetrics(Collector):
    """What is known of each configured model and adapter, as gauges, for all processes of the host at once."""

    def __init__(self, current: Callable[[], Config], vitals: Vitals) -> None:
        self._current, self._vitals = current, vitals

    def collect(self) -> Iterator[GaugeMetricFamily]:
        config, vitals, now = self._current(), self._vitals, time.monotonic()
        in_flight = GaugeMetricFamily(
            "router_model_in_flight", "Requests at a model and its adapters, by the host's routers.", labels=["model"]
        )
        seconds = GaugeMetricFamily(
            "router_model_seconds",
            "What a model or adapter takes at the moment: to the first token of a stream, for an answer in one piece, "
            "for each token of output.",
            labels=["model", "measure"],
        )
        queue = GaugeMetricFamily("router_model_queue", "Requests that wait, as backends say.", labels=["model"])
        cache = GaugeMetricFamily("router_model_kv_cache", "Share of the KV cache in use.", labels=["model"])
        for model in config.providers.models:
            in_flight.add_metric([model.name], vitals.total(model.name, Field.IN_FLIGHT))
            if (polled := vitals.polled(model.name)) is not None:
                queue.add_metric([model.name], polled[Field.QUEUE])
                cache.add_metric([model.name], polled[Field.KV_USAGE])
        rests = GaugeMetricFamily(
            "router_model_rests",
            "Seconds for which a model or adapter is not asked, because it failed.",
            labels=["model"],
        )
        resting = breakers.resting(config, vitals)
        for label, name in config.targets().items():
            rests.add_metric([label], resting[label].seconds if label in resting else 0)
            for measure, word in _MEASURES.items():
                if (estimate := vitals.estimate(name, measure, now)) is not None:
                    seconds.add_metric([label, word], estimate.mean)
        yield from (in_flight, seconds, queue, cache, rests)

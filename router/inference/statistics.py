"""What Triton itself says of its models: how many requests wait, how long, and how long it works on one.

Triton counts since its start, and counts a request once it has left the queue. So figures are differences between two
looks, and a Triton that stands still shows none: the calls that it owes are counted on this side (:mod:`.limit`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from triton_router.http2.client import CallFailed, GrpcChannel
from triton_router.inference import kserve

# Seconds between two looks, and that each Triton may take to answer.
INTERVAL, ANSWER_WITHIN = 5.0, 1.0
_PATH = "/inference.GRPCInferenceService/ModelStatistics"


@dataclass(frozen=True, slots=True)
class ModelLoad:
    """A model on all Tritons between two looks; ``None`` where there was nothing to measure.

    ``waiting`` is the average number of requests in its queue, by Little's law; ``batch`` how many rows it worked on
    at once.
    """

    requests_per_second: float
    failed: int
    waiting: float
    queue_ms: float | None
    compute_ms: float | None
    batch: float | None


@dataclass(slots=True)
class _Triton:
    """One address behind the endpoint, and what its models had counted at the last look."""

    channel: GrpcChannel
    counts: dict[str, Counter[str]] = field(default_factory=dict)


class Statistics:
    """Figures of ``models`` (Triton's names) on every Triton behind ``endpoint``.

    :meth:`run` keeps ``loads`` fresh; ``failures`` says by address why a Triton gives none.
    """

    def __init__(self, endpoint: str, models: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        self.loads: dict[str, ModelLoad] = {}
        self.failures: dict[str, str] = {}
        self._endpoint, self._names = endpoint, GrpcChannel(endpoint)
        self._models, self._clock = frozenset(models), clock
        self._tritons: dict[str, _Triton] = {}
        self._at = clock()

    async def run(self) -> None:
        """Look every :data:`INTERVAL`, until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(INTERVAL)
        finally:
            for triton in self._tritons.values():
                await triton.channel.close()

    async def look(self) -> None:
        """Ask every Triton once. The first look only learns where the counters stand."""
        failures: dict[str, str] = {}
        grown: defaultdict[str, Counter[str]] = defaultdict(Counter)
        try:
            await self._find()
        except CallFailed as failure:
            failures[self._endpoint] = failure.details
        answers = await asyncio.gather(*map(self._ask, self._tritons.values()))
        now = self._clock()
        seconds, self._at = now - self._at, now
        for (address, triton), answer in zip(self._tritons.items(), answers, strict=True):
            if isinstance(answer, CallFailed):
                failures[address] = answer.details
                # What it counts until it answers again belongs to no interval.
                triton.counts = {}
                continue
            for name in answer.keys() & triton.counts.keys():
                grown[name].update(_since(triton.counts[name], answer[name]))
            triton.counts = answer
        self.failures = failures
        self.loads = {name: _load(counts, seconds) for name, counts in grown.items()}

    async def _find(self) -> None:
        """Keep a connection to every address that the endpoint has now."""
        addresses = {_written(*each) for each in await self._names.addresses()}
        for gone in self._tritons.keys() - addresses:
            await self._tritons.pop(gone).channel.close()
        for new in sorted(addresses - self._tritons.keys()):
            self._tritons[new] = _Triton(GrpcChannel(new))

    async def _ask(self, triton: _Triton) -> dict[str, Counter[str]] | CallFailed:
        """What the models have counted, by name; versions of a model are added up."""
        # Without a name: of all models.
        request = kserve.ModelStatisticsRequest().SerializeToString()
        try:
            message = await triton.channel.unary(_PATH)(request, ANSWER_WITHIN)
            response: Any = kserve.ModelStatisticsResponse.FromString(message)
        except CallFailed as failure:
            return failure
        except DecodeError:
            return CallFailed("INTERNAL", "Triton's response is no message of its protocol")
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for model in response.model_stats:
            if model.name in self._models:
                counts[model.name].update(_counts(model))
        return dict(counts)


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _counts(model: Any) -> dict[str, int]:
    inference = model.inference_stats
    return {
        "rows": model.inference_count, "batches": model.execution_count,
        "succeeded": inference.success.count, "failed": inference.fail.count,
        "queued": inference.queue.count, "queue_ns": inference.queue.ns,
        "computed": inference.compute_infer.count, "compute_ns": inference.compute_infer.ns,
    }  # fmt: skip


def _since(before: Counter[str], now: Counter[str]) -> Counter[str]:
    # A counter that went back was started anew.
    restarted = any(now[name] < count for name, count in before.items())
    return now if restarted else Counter({name: count - before[name] for name, count in now.items()})


def _load(grown: Counter[str], seconds: float) -> ModelLoad:
    def mean(total: str, count: str, unit: float = 1.0) -> float | None:
        return grown[total] / grown[count] / unit if grown[count] else None

    return ModelLoad(
        requests_per_second=(grown["succeeded"] + grown["failed"]) / seconds,
        failed=grown["failed"],
        waiting=grown["queue_ns"] / 1e9 / seconds,
        queue_ms=mean("queue_ns", "queued", 1e6),
        compute_ms=mean("compute_ns", "computed", 1e6),
        batch=mean("rows", "batches"),
    )

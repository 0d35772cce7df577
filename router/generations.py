"""The pipeline that routes now, and how the next one takes its place: one process's share of a reload.

What lives longer than a generation (the encoders' connections, what texts were encoded to, MCP sessions) is kept here
and handed from one generation to the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from triton_router.cache.cache import SemanticCache
from triton_router.cache.judge import PairJudge
from triton_router.cache.stores import open_store
from triton_router.config import Loaded
from triton_router.config.services import McpSettings
from triton_router.errors import Unavailable
from triton_router.exchange import Outcome, Request
from triton_router.heap import return_large_blocks, trim
from triton_router.inference import Bundle, Encoder, Encoders
from triton_router.limits import SharedCounters, Stores
from triton_router.live import LiveLog
from triton_router.pipeline import Pipeline
from triton_router.replay import ReplayLog
from triton_router.runtime import CacheRuntime, compile_runtime
from triton_router.selection import LoadedAdapters
from triton_router.signals.mcp import McpClassifier
from triton_router.supervision import Tasks
from triton_router.telemetry import Metrics
from triton_router.vitals import Vitals

log = logging.getLogger(__name__)

# Seconds that the end of the service may take for sending the last spans.
FLUSH_WITHIN = 3.0
# Seconds between attempts to encode the texts of a generation that went into service without.
PREPARE_AGAIN = 1.0


@dataclass(slots=True)
class _Classifier:
    client: McpClassifier
    task: asyncio.Task[None] | None = None

    def start(self, tasks: Tasks) -> None:
        self.task = tasks.start("mcp", self.client.run)


class Generations:
    """Use it inside one event loop; ``tasks`` are its own and the service's.

    ``directory`` is where encoded texts are kept; ``None`` keeps them in memory. ``vitals`` is what is known of the
    models, and ``counts`` are those of limits in memory; ``None`` where no other process shares them.

    It has 19 methods and 15 attributes, because all that outlives a generation is looked after here.

    Raises:
        BundleError: a configured domain needs the bundle's parameters for topics and they are not there.
        RuntimeError: a signal needs a package that is not installed.
    """

    def __init__(
        self,
        first: Loaded,
        bundle: Bundle,
        tokenizers: dict[str, bytes],
        metrics: Metrics,
        directory: Path | None = None,
        vitals: Vitals | None = None,
        counts: SharedCounters | None = None,
    ) -> None:
        self.vitals, self._counts = vitals or Vitals(), Stores(counts)
        self._topics = bundle.topics
        self._metrics = metrics
        self.tasks = Tasks(metrics)
        self._encoders = Encoders(bundle, tokenizers, first.config.global_.inference, metrics, directory)
        self._checksum = bundle.checksum
        self._cache: SemanticCache | None = None
        self._retired: list[SemanticCache] = []
        self._replay: ReplayLog | None = None
        self._live = LiveLog()
        self._classifiers: list[_Classifier] = []
        self._running = False
        self._unprepared: Pipeline | None = None
        self._late: asyncio.Task[None] | None = None
        self.current = self._build(first)
        self._cache = self.current.cache

    @property
    def encoders(self) -> Encoders:
        """The trunks on Triton, which all generations share."""
        return self._encoders

    async def prepare(self, loaded: Loaded) -> Pipeline:
        """A pipeline for ``loaded``, its texts encoded if the encoder answers; routing goes on with the current one.

        Raises:
            BundleError: a configured domain cannot be scored with this bundle.
            RuntimeError: a signal needs a package that is not installed.
        """
        pipeline = self._build(loaded)
        try:
            await pipeline.prepare()
        except Unavailable as unavailable:
            log.warning("generation is not prepared", extra={"fields": {"reason": unavailable.reason}})
            self._unprepared = pipeline
        return pipeline

    def commit(self, pipeline: Pipeline) -> None:
        """Route with ``pipeline`` from now on; requests in flight stay with theirs."""
        pipeline.adapters = self.current.adapters
        self.current = pipeline
        if pipeline.cache is not self._cache:
            self._retired += [self._cache] if self._cache is not None else []
            self._cache = pipeline.cache
        if pipeline is self._unprepared:
            self._late = asyncio.create_task(self._prepare_late(pipeline))

    async def _prepare_late(self, pipeline: Pipeline) -> None:
        """An encoder that was too slow once is not down: its watch sees no coming back that would prepare anything."""
        while pipeline is self.current:
            await asyncio.sleep(PREPARE_AGAIN)
            with contextlib.suppress(Unavailable):
                await pipeline.prepare()
                return

    @asynccontextmanager
    async def routing(self, out: TextIO = sys.stdout) -> AsyncIterator[Callable[[Request], Awaitable[Outcome]]]:
        """What answers requests: the current pipeline, and where tracing is on, spans of what it did.

        Spans go to ``out`` with the exporter ``stdout``. At the end those that wait are sent, for some seconds at most.
        """
        _settle_memory()
        settings = self.current.runtime.tracing
        if settings is None:
            yield lambda request: self.current.route(request)
            return
        # OpenTelemetry is behind these, and not imported without need.
        from triton_router.spans import traced
        from triton_router.telemetry.traces import Traces

        traces = Traces(settings, self._metrics, out)
        try:
            yield traced(lambda: self.current, traces)
        finally:
            await asyncio.to_thread(traces.close, FLUSH_WITHIN)

    def know(self, adapters: LoadedAdapters) -> None:
        """Take notice of what the backends have loaded."""
        self.current.adapters = adapters

    async def replay(self, name: str) -> dict[str, Any] | None:
        """The record of a decision, by its id."""
        log = self.current.journal.replay
        return log.find(name) if log is not None else None

    async def recorded(self, most: int, before: str | None) -> list[dict[str, Any]]:
        """A page of the records that keep a prompt or a request; see :meth:`triton_router.replay.ReplayLog.quoted`."""
        log = self.current.journal.replay
        return log.quoted(most, before) if log is not None else []

    async def count_recorded(self) -> int:
        """How many records keep a prompt or a request."""
        log = self.current.journal.replay
        return log.count_quoted() if log is not None else 0

    async def live(self, number: int) -> dict[str, Any]:
        """The requests since that ``number``; see :meth:`triton_router.live.LiveLog.since`."""
        return self._live.since(number)

    async def purge(self, key: str | None, decision: str | None) -> int:
        """Empty the cache, or a part of it; returns how many entries there were."""
        cache = self.current.cache
        return await cache.purge(key, decision) if cache is not None else 0

    async def forget_unused(self) -> None:
        """End MCP sessions and close stores that the current generation does not use."""
        while self._retired:
            with contextlib.suppress(Exception):
                await self._retired.pop().close()
        current = self.current.runtime.mcp
        for each in [each for each in self._classifiers if each.client.settings != current]:
            self._classifiers.remove(each)
            if each.task is not None:
                each.task.cancel()

    async def settled(self, seconds: float, *, patient: bool = True) -> bool:
        """Wait until all that the signals ask is up, ``seconds`` at most. Returns whether it is.

        :meth:`run` must be running. Without being ``patient`` it does not wait for what refuses connections.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            failures = {*self._encoders.failures.values(), *(each.client.failure for each in self._classifiers)}
            if not failures - ({None} if patient else {None, "unreachable"}):
                return not failures - {None}
            await asyncio.sleep(0.02)
        return False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """:meth:`run`, for as long as the context lasts."""
        watch = asyncio.create_task(self.run())
        try:
            yield
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def run(self) -> None:
        """Watch the encoders and keep MCP sessions open, until cancelled."""
        self._running = True
        for classifier in self._classifiers:
            classifier.start(self.tasks)
        try:
            probes = {
                f"encoder {each.trunk.name}": partial(each.run, partial(self._prepare_for, each))
                for each in self._encoders.watched
            }
            async with self.tasks.running(**probes):
                await asyncio.Event().wait()
        finally:
            self._running = False
            tasks = [task for task in (self._late, *(each.task for each in self._classifiers)) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in self._encoders.watched:
                with contextlib.suppress(Exception):
                    await each.close()
            if self._cache is not None:
                with contextlib.suppress(Exception):
                    await self._cache.close()
            await self._counts.close()

    async def _prepare_for(self, encoder: Encoder) -> None:
        await self.current.prepare(encoder)

    def _build(self, loaded: Loaded) -> Pipeline:
        runtime = compile_runtime(loaded)
        if not self._encoders.pairs and any(each.cache and each.cache.compares for each in runtime.recipes):
            log.warning("the signal bundle has no model that judges pairs; the semantic cache finds exact repeats only")
        replay = runtime.journal.replay
        if replay is not None and (self._replay is None or self._replay.settings != replay):
            self._replay = ReplayLog(replay)
        return Pipeline(
            runtime,
            self._encoders,
            self._topics,
            self._metrics,
            classifier=self._classifier(runtime.mcp),
            cache=self._cache_for(runtime.cache),
            replay=self._replay if replay is not None else None,
            live=self._live,
            vitals=self.vitals,
            counts=self._counts,
        )

    def _cache_for(self, runtime: CacheRuntime | None) -> SemanticCache | None:
        """The cache that the settings ask for: the current one, with all that it holds, while they stay the same."""
        if runtime is None:
            return None
        settings, identity = runtime.settings, runtime.identity
        # Among the settings is the embedding's model: vectors of two models must never meet.
        if self._cache is not None and (self._cache.settings, self._cache.identity) == (settings, identity):
            return self._cache
        secret = settings.secret.get_secret_value().encode() if settings.secret else None
        store = open_store(settings, self._encoders.dimension)
        judge = PairJudge(self._encoders.pairs)
        # Stores that replicas share keep bundles apart by the checksum.
        return SemanticCache(store, settings, identity, self._checksum, self._metrics, secret, judge=judge)

    def _classifier(self, settings: McpSettings | None) -> McpClassifier | None:
        if settings is None:
            return None
        classifier = next((each for each in self._classifiers if each.client.settings == settings), None)
        if classifier is None:
            classifier = _Classifier(McpClassifier(settings))
            self._classifiers.append(classifier)
            if self._running:
                classifier.start(self.tasks)
        return classifier.client


def _settle_memory() -> None:
    """Take what the process has loaded out of garbage collection: looking through it all holds requests up."""
    return_large_blocks()
    gc.collect()
    gc.freeze()
    trim()

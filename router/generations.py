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

from pydantic import ValidationError

from triton_router.cache.cache import SemanticCache
from triton_router.cache.stores import open_store
from triton_router.config import Loaded
from triton_router.config.schema import SemanticCachePlugin
from triton_router.config.services import McpSettings, ReplaySettings
from triton_router.inference import Bundle, BundleError, Encoder, Encoders, Unavailable
from triton_router.pipeline import Outcome, Pipeline, Request
from triton_router.replay import Records
from triton_router.selection import LoadedAdapters
from triton_router.signals.domain import TopicParameters
from triton_router.signals.mcp import McpClassifier
from triton_router.telemetry import Metrics

log = logging.getLogger(__name__)

# Seconds that the end of the service may take for sending the last spans.
FLUSH_WITHIN = 3.0
# Seconds between attempts to encode the texts of a generation that went into service without.
PREPARE_AGAIN = 1.0


@dataclass(slots=True)
class _Classifier:
    client: McpClassifier
    task: asyncio.Task[None] | None = None


class Generations:
    """Use it inside one event loop. ``directory`` is where encoded texts are kept; ``None`` keeps them in memory.

    Raises:
        BundleError: the bundle's parameters for topics do not parse, or a configured domain needs them and they are
            not there.
        RuntimeError: a signal needs a package that is not installed.
    """

    def __init__(
        self,
        first: Loaded,
        bundle: Bundle,
        tokenizers: dict[str, bytes],
        metrics: Metrics,
        directory: Path | None = None,
    ) -> None:
        try:
            self._topics = TopicParameters.model_validate(bundle.topics)
        except ValidationError as error:
            raise BundleError(f"signal bundle: topics: {error}") from error
        self._metrics = metrics
        self._encoders = Encoders(bundle, tokenizers, first.config.global_.inference, metrics, directory)
        self._checksum = bundle.checksum
        self._cache: SemanticCache | None = None
        self._retired: list[SemanticCache] = []
        self._records: Records | None = None
        self._classifiers: list[_Classifier] = []
        self._running = False
        self._unprepared: Pipeline | None = None
        self._late: asyncio.Task[None] | None = None
        self.current = self._build(first)
        self._cache = self.current.cache

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
        _keep_what_is_here()
        settings = self.current.config.global_.services.observability.tracing
        if not settings.enabled:
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
        records = self.current.records
        return records.find(name) if records is not None else None

    async def purge(self, key: str | None, decision: str | None) -> int:
        """Empty the cache, or a part of it; returns how many entries there were."""
        cache = self.current.cache
        return await cache.purge(key, decision) if cache is not None else 0

    async def forget_unused(self) -> None:
        """End MCP sessions and close stores that the current generation does not use."""
        while self._retired:
            with contextlib.suppress(Exception):
                await self._retired.pop().close()
        wanted = _mcp(self.current)
        for each in [each for each in self._classifiers if each.client.settings != wanted]:
            self._classifiers.remove(each)
            if each.task is not None:
                each.task.cancel()

    async def settled(self, seconds: float) -> None:
        """Wait until all that the signals ask is up, ``seconds`` at most. :meth:`run` must be running."""
        deadline = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < deadline:
            if not self.current.failures and not any(each.client.failure for each in self._classifiers):
                return
            await asyncio.sleep(0.02)

    async def run(self) -> None:
        """Watch the encoders and keep MCP sessions open, until cancelled."""
        self._running = True
        for known in self._classifiers:
            self._start(known)
        try:
            await asyncio.gather(*(each.run(partial(self._encoder_is_up, each)) for each in self._encoders))
        finally:
            self._running = False
            tasks = [task for task in (self._late, *(each.task for each in self._classifiers)) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in self._encoders:
                with contextlib.suppress(Exception):
                    await each.close()
            if self._cache is not None:
                with contextlib.suppress(Exception):
                    await self._cache.close()

    async def _encoder_is_up(self, encoder: Encoder) -> None:
        await self.current.prepare(encoder)

    def _build(self, loaded: Loaded) -> Pipeline:
        return Pipeline(
            loaded,
            self._encoders,
            self._topics,
            self._metrics,
            classifier=self._classifier(loaded.config.global_.model_catalog.modules.classifier.mcp),
            cache=self._cache_for(loaded),
            records=self._records_for(loaded.config.global_.services.router_replay),
        )

    def _records_for(self, settings: ReplaySettings) -> Records | None:
        if not settings.enabled:
            return None
        if self._records is None or self._records.settings != settings:
            self._records = Records(settings)
        return self._records

    def _cache_for(self, loaded: Loaded) -> SemanticCache | None:
        """The cache that the settings ask for: the current one, with all that it holds, while they stay the same."""
        settings, identity = loaded.config.global_.stores.semantic_cache, loaded.config.global_.services.authz.identity
        if not settings.enabled or not _caches(loaded):
            return None
        # Among the settings is the embedding's model: vectors of two models must never meet.
        if self._cache is not None and (self._cache.settings, self._cache.identity) == (settings, identity):
            return self._cache
        secret = settings.secret.get_secret_value().encode() if settings.secret else None
        trunk = self._encoders.embedder(settings.embedding_model).trunk
        assert trunk.embedding is not None
        store = open_store(settings, trunk.embedding.dimension)
        # Stores that replicas share keep bundles apart by this text.
        model = self._checksum if trunk is self._encoders.embedder().trunk else f"{self._checksum}.{trunk.name}"
        return SemanticCache(store, settings, identity, model, self._metrics, secret)

    def _classifier(self, settings: McpSettings | None) -> McpClassifier | None:
        if settings is None or not settings.enabled:
            return None
        known = next((each for each in self._classifiers if each.client.settings == settings), None)
        if known is None:
            known = _Classifier(McpClassifier(settings))
            self._classifiers.append(known)
            if self._running:
                self._start(known)
        return known.client

    def _start(self, classifier: _Classifier) -> None:
        classifier.task = asyncio.create_task(classifier.client.run())


def _caches(loaded: Loaded) -> bool:
    plugins = (plugin for decision in loaded.config.routing.decisions for plugin in decision.plugins)
    return any(isinstance(plugin, SemanticCachePlugin) and plugin.configuration.enabled for plugin in plugins)


def _mcp(pipeline: Pipeline) -> McpSettings | None:
    settings = pipeline.config.global_.model_catalog.modules.classifier.mcp
    return settings if settings is not None and settings.enabled else None


def _keep_what_is_here() -> None:
    """Take what the process has loaded out of garbage collection: looking through it all holds requests up."""
    gc.collect()
    gc.freeze()

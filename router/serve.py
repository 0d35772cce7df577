"""The service: ext_proc, REST and metrics around one pipeline, from start to drained."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, start_http_server
from starlette.applications import Starlette

from triton_router.api import create_app
from triton_router.config import Config, Loaded
from triton_router.config.services import ApiSettings, MetricsSettings
from triton_router.discovery import Discovery
from triton_router.extproc.server import ExtProcServer
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.pipeline import Pipeline
from triton_router.reload import Gateway, Reloader
from triton_router.scratch import own_directory
from triton_router.selection import LoadedAdapters
from triton_router.telemetry import Metrics, share_metrics
from triton_router.worker import Worker

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Where a router runs.

    ``bundle`` is the path of the signal bundle's manifest, ``directory`` where encoded texts are kept (``None``: in
    memory). ``gateway`` is told of each generation's models; ``addresses`` maps endpoints to where they really are.
    """

    bundle: Path
    directory: Path | None = None
    gateway: Gateway | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    log_level: str = "INFO"


def bundle_path(config: Config, repository: Path) -> Path:
    """Where the bundle's manifest is: where the configuration says, else in the model repository."""
    named = config.global_.inference.bundle
    return Path(named) if named else repository / "bundle.json"


async def serve(path: Path, loaded: Loaded, place: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT, then drain; follow changes of ``path`` meanwhile. Must run in the main thread.

    Raises:
        BundleError: the signal bundle cannot be used, or not for this configuration.
        RuntimeError: an address cannot be bound, the REST token's variable is empty, or a package is missing.
    """
    stop = asyncio.Event()
    # Before anything is begun that a signal must not cut off.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    several = loaded.config.global_.services.extproc.workers > 1
    with own_directory() if several else contextlib.nullcontext() as metrics_directory:
        await _Service(path, loaded, place, metrics_directory).run(stop)
    log.info("stopped")


class _Service:
    """One process that serves it all, or the supervisor of several that serve ext_proc."""

    def __init__(self, path: Path, loaded: Loaded, place: ServeOptions, metrics_directory: Path | None) -> None:
        self._config = loaded.config.global_
        shared = share_metrics(metrics_directory) if metrics_directory is not None else None
        metrics = self._metrics = Metrics()
        self._exposed = shared or metrics.registry
        bundle, tokenizers = load_bundle(place.bundle)
        self._generations = Generations(loaded, bundle, tokenizers, metrics, place.directory)
        self._workers = [
            Worker(
                self._config.services.extproc.port + index,
                loaded,
                bundle=place.bundle,
                directory=place.directory,
                metrics_directory=metrics_directory,
                log_level=place.log_level,
            )
            for index in range(self._config.services.extproc.workers)
            if metrics_directory is not None
        ]
        local = _Local(self._generations)
        self._reloader = Reloader(path, loaded, lambda: [local, *self._workers], metrics, place.gateway)
        self._discovery = Discovery(
            lambda: self._generations.current.runtime.config, self._know, metrics, place.addresses
        )

    def _know(self, adapters: LoadedAdapters) -> None:
        self._generations.know(adapters)
        for worker in self._workers:
            worker.know(adapters)

    def _app(self, settings: ApiSettings) -> Starlette:
        token = os.environ.get(settings.token_env, "") if settings.token_env else None
        if token == "":
            raise RuntimeError(f"global.services.api.token_env: the variable {settings.token_env} is empty")
        return create_app(
            lambda: self._generations.current,
            token,
            rejected=lambda: self._reloader.rejected,
            purge=self._purge,
            replay=self._replay,
        )

    async def _replay(self, name: str) -> dict[str, Any] | None:
        here = self._generations.replay(name)
        found = await asyncio.gather(here, *(worker.replay(name) for worker in self._workers))
        return next((record for record in found if record is not None), None)

    async def _purge(self, key: str | None, decision: str | None) -> int:
        here = self._generations.purge(key, decision)
        return sum(await asyncio.gather(here, *(worker.purge(key, decision) for worker in self._workers)))

    async def run(self, stop: asyncio.Event) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reloader.look)
        services = self._config.services
        async with (
            _metrics(services.observability.metrics, self._exposed),
            _rest(services.api, self._app(services.api)),
            _background(self._generations.run(), self._discovery.run(), self._reloader.run()),
            self._extproc(stop),
        ):
            if not stop.is_set():
                log.info("serving", extra={"fields": self._described()})
            await stop.wait()
            log.info("draining")

    def _described(self) -> dict[str, object]:
        current = self._generations.current
        extproc = self._config.services.extproc
        return {"generation": current.runtime.generation, "extproc": extproc.port, "workers": extproc.workers,
                "warnings": len(self._reloader.current.warnings)}  # fmt: skip

    @asynccontextmanager
    async def _extproc(self, stop: asyncio.Event) -> AsyncIterator[None]:
        if self._workers:
            async with _background(*(worker.run() for worker in self._workers)):
                await _first(stop.wait(), asyncio.gather(*(worker.ready.wait() for worker in self._workers)))
                yield
            return
        async with self._generations.routing() as route:
            server = ExtProcServer.of(route, self._config, 0, self._metrics)
            await server.start()
            try:
                yield
            finally:
                await server.drain(self._config.router.drain_seconds)


class _Local:
    """This process's share of a reload; see :class:`triton_router.reload.ReloadParticipant`."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._prepared: Pipeline | None = None
        self._before: Pipeline | None = None

    async def prepare(self, loaded: Loaded) -> None:
        self._prepared = await self._generations.prepare(loaded)

    async def commit(self) -> None:
        assert self._prepared is not None
        self._before = self._generations.current
        self._generations.commit(self._prepared)
        self._prepared = None

    async def drained(self) -> None:
        if self._before is not None:
            await self._before.drained()
        self._before = None
        await self._generations.forget_unused()


async def _first(*work: Awaitable[object]) -> None:
    """Until one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def _background(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run ``work`` beside what is inside; all of it ends with it."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("failed in the background", exc_info=result)


@asynccontextmanager
async def _rest(settings: ApiSettings, app: Starlette) -> AsyncIterator[None]:
    options = uvicorn.Config(
        app, host=settings.host, port=settings.port, log_config=None, access_log=False, lifespan="off"
    )
    server = _QuietServer(options)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        if serving.done():
            raise RuntimeError(f"global.services.api: cannot listen on {settings.host}:{settings.port}")
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        # Signals belong to `serve`: REST must answer until the streams have drained.
        yield


@asynccontextmanager
async def _metrics(settings: MetricsSettings, registry: CollectorRegistry) -> AsyncIterator[None]:
    if not settings.enabled:
        yield
        return
    try:
        server, thread = start_http_server(settings.port, settings.host, registry)
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        raise RuntimeError(f"global.services.observability.metrics: cannot listen on {address}: {error}") from error
    try:
        yield
    finally:
        server.shutdown()
        thread.join()

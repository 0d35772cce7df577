"""The service: ext_proc, REST and metrics around one pipeline, from start to drained."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import CancelledError
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server

import triton_router.startup  # noqa: F401
from triton_router import breakers
from triton_router.api.history import History
from triton_router.api.live import LiveFeed
from triton_router.api.state import ServiceState
from triton_router.config import Config, Loaded
from triton_router.config.observability import MetricsSettings
from triton_router.config.services import ApiSettings
from triton_router.discovery import Discovery
from triton_router.extproc.server import ExtProcServer
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.inference.statistics import Statistics
from triton_router.limits import SharedCounters
from triton_router.load import LoadPoll, VitalsMetrics
from triton_router.pipeline import Pipeline
from triton_router.reload import Gateway, Reloader
from triton_router.selection import LoadedAdapters
from triton_router.telemetry import Metrics, SummedMetrics
from triton_router.vitals import Vitals
from triton_router.worker import Spare, Worker

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

T = TypeVar("T")

log = logging.getLogger(__name__)

# Seconds that a scrape waits for the workers' metrics, and a liveness probe for the event loop.
SCRAPE_WITHIN, LIVE_WITHIN = 1.0, 3.0
# Pages of recorded requests that one process gives for a comparison: some 32 MiB.
MOST_PAGES = 128


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


async def serve(path: Path, loaded: Loaded, options: ServeOptions) -> None:
    """Serve until SIGTERM or SIGINT, then drain; follow changes of ``path`` meanwhile. Must run in the main thread.

    Raises:
        BundleError: the signal bundle cannot be used, or not for this configuration.
        RuntimeError: an address cannot be bound, the REST token's variable is empty, or a package is missing.
    """
    stop = asyncio.Event()
    # Before anything is begun that a signal must not cut off.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await _Service(path, loaded, options).run(stop)
    log.info("stopped")


class _Service:
    """One process that serves it all, or the supervisor of several that serve ext_proc."""

    def __init__(self, path: Path, loaded: Loaded, options: ServeOptions) -> None:
        self._config = loaded.config.global_
        metrics = self._metrics = Metrics()
        self._bundle = options.bundle
        bundle, tokenizers = load_bundle(options.bundle)
        self._loop = asyncio.get_running_loop()
        workers = self._config.services.extproc.workers
        vitals_file, counts_file = (_shared_file(name) if workers > 1 else None for name in ("vitals", "counts"))
        vitals = Vitals(vitals_file, seats=workers + 1)
        counts = SharedCounters(counts_file, seats=workers + 1)
        self._generations = Generations(loaded, bundle, tokenizers, metrics, options.directory, vitals, counts)
        self._registry = metrics.registry
        self._spare = Spare()
        self._workers: list[Worker] = []
        if workers > 1:
            sums = SummedMetrics(metrics.registry, self._measure)
            self._registry = CollectorRegistry()
            self._registry.register(sums)
            self._workers = [
                Worker(
                    self._config.services.extproc.port + index,
                    loaded,
                    bundle=options.bundle,
                    directory=options.directory,
                    metrics=metrics,
                    sums=sums,
                    spare=self._spare,
                    vitals=vitals_file,
                    counts=counts_file,
                    log_level=options.log_level,
                )
                for index in range(workers)
            ]
        self._statistics = Statistics(
            self._config.inference.endpoint, {encoder.trunk.model for encoder in self._generations.encoders.watched}
        )
        sources = [self._generations.live, *(worker.live for worker in self._workers)]
        current = partial(_config, self._generations)
        self._registry.register(VitalsMetrics(current, vitals))
        self._feed = LiveFeed(lambda: sources, History(self._registry))
        local = _Local(self._generations)
        self._reloader = Reloader(path, loaded, lambda: [local, *self._workers], metrics, options.gateway)
        self._polls = {
            "discovery": Discovery(current, self._know, metrics, options.addresses).run,
            "load": LoadPoll(current, vitals, options.addresses).run,
            "statistics": self._statistics.run,
        }

    def _measure(self) -> None:
        """Get the workers' metrics, in the thread of a scrape; those of one that does not give them are older."""

        async def measure() -> None:
            await asyncio.gather(*(worker.measure() for worker in self._workers))

        _in_loop(self._loop, measure, SCRAPE_WITHIN)

    def _alive(self) -> bool:
        """Whether the event loop runs and a worker serves, asked in a thread."""

        async def serves() -> bool:
            return not self._workers or any(worker.ready.is_set() for worker in self._workers)

        return bool(_in_loop(self._loop, serves, LIVE_WITHIN))

    def _troubles(self) -> dict[str, str]:
        tasks = {f"task {name}": reason for name, reason in self._generations.tasks.failures.items()}
        workers = {f"worker {worker.port}": worker.failure for worker in self._workers if worker.failure}
        resting = breakers.resting(self._generations.current.runtime.config, self._generations.vitals)
        models = {f"model {name}": f"{each.state} for {each.seconds:.0f} s" for name, each in resting.items()}
        return tasks | workers | models

    def _know(self, adapters: LoadedAdapters) -> None:
        self._generations.know(adapters)
        for worker in self._workers:
            worker.know(adapters)

    def _rest(self, settings: ApiSettings) -> AbstractAsyncContextManager[None]:
        # Loaded here: REST and its server bring nearly as much as all the rest, and this process alone has them.
        from triton_router.api.app import create_app
        from triton_router.api.server import serving
        from triton_router.probes.examples import examples, probes_of

        def probes() -> list[dict[str, Any]]:
            loaded = self._reloader.current
            return examples(probes_of(loaded.config, Path(loaded.file)))

        token = os.environ.get(settings.token_env, "") if settings.token_env else None
        if token == "":
            raise RuntimeError(f"global.services.api.token_env: the variable {settings.token_env} is empty")
        app = create_app(
            lambda: self._generations.current,
            token,
            rejected=lambda: self._reloader.rejected,
            purge=self._purge,
            replay=self._replay,
            troubles=self._troubles,
            state=ServiceState(
                loaded=lambda: self._reloader.current,
                since=lambda: self._reloader.since,
                bundle=self._bundle,
                recorded=self._recorded,
                count_recorded=self._count_recorded,
                feed=self._feed,
                workers=lambda: {worker.port: worker.ready.is_set() for worker in self._workers},
                statistics=self._statistics,
                probes=partial(asyncio.to_thread, probes),
            ),
        )
        return serving(settings, app)

    async def _recorded(self, most: int) -> list[dict[str, Any]]:
        everywhere = await asyncio.gather(*(_pages(part.recorded, most) for part in self._recording))
        records = [record for records in everywhere for record in records]
        return sorted(records, key=lambda record: str(record["time"]))[-most:]

    async def _count_recorded(self) -> int:
        return sum(await asyncio.gather(*(part.count_recorded() for part in self._recording)))

    @property
    def _recording(self) -> list[Generations | Worker]:
        return [self._generations, *self._workers]

    async def _replay(self, name: str) -> dict[str, Any] | None:
        here = self._generations.replay(name)
        records = await asyncio.gather(here, *(worker.replay(name) for worker in self._workers))
        return next((record for record in records if record is not None), None)

    async def _purge(self, key: str | None, decision: str | None) -> int:
        here = self._generations.purge(key, decision)
        return sum(await asyncio.gather(here, *(worker.purge(key, decision) for worker in self._workers)))

    async def run(self, stop: asyncio.Event) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._reloader.look)
        services = self._config.services
        async with (
            _metrics(services.observability.metrics, self._registry, self._alive),
            self._rest(services.api),
            contextlib.aclosing(self._feed),
            self._generations.tasks.running(
                generations=self._generations.run,
                reload=self._reloader.run,
                history=self._feed.history.run,
                **self._polls,
            ),
            self._extproc(stop),
        ):
            if not stop.is_set():
                log.info("serving", extra={"fields": self._description()})
            await stop.wait()
            log.info("draining")

    def _description(self) -> dict[str, object]:
        current = self._generations.current
        extproc = self._config.services.extproc
        return {"generation": current.runtime.generation, "extproc": extproc.port, "workers": extproc.workers,
                "warnings": len(self._reloader.current.warnings)}  # fmt: skip

    @asynccontextmanager
    async def _extproc(self, stop: asyncio.Event) -> AsyncIterator[None]:
        if self._workers:
            runs = {f"worker {worker.port}": worker.run for worker in self._workers}
            try:
                async with self._generations.tasks.running(**runs):
                    await _first(stop.wait(), asyncio.gather(*(worker.ready.wait() for worker in self._workers)))
                    yield
            finally:
                await self._spare.close()
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


async def _pages(page: Callable[[int, str | None], Awaitable[list[dict[str, Any]]]], most: int) -> list[dict[str, Any]]:
    """The last ``most`` records of a process, page by page, from the newest on."""
    pages: list[list[dict[str, Any]]] = []
    before, size = None, 0
    while size < most and len(pages) < MOST_PAGES and (records := await page(most - size, before)):
        pages.append(records)
        before, size = records[0]["id"], size + len(records)
    return [record for page in reversed(pages) for record in page]


def _config(generations: Generations) -> Config:
    return generations.current.runtime.config


def _shared_file(name: str) -> str:
    """A file in memory that goes with this process; others find it under its number here."""
    return f"/proc/{os.getpid()}/fd/{os.memfd_create(name)}"


async def _first(*work: Awaitable[object]) -> None:
    """Until one of them is done; the others are cancelled."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _in_loop(loop: asyncio.AbstractEventLoop, work: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T | None:
    """What ``work`` returns in the loop of another thread; ``None`` after ``seconds``, or where that loop has ended."""
    coroutine = work()
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    except RuntimeError:
        coroutine.close()
        return None
    try:
        return future.result(seconds)
    except (TimeoutError, CancelledError):
        future.cancel()
        return None


@asynccontextmanager
async def _metrics(
    settings: MetricsSettings, registry: CollectorRegistry, alive: Callable[[], bool]
) -> AsyncIterator[None]:
    if not settings.enabled:
        yield
        return
    try:
        server, thread = start_http_server(settings.port, settings.host, registry)
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        raise RuntimeError(f"global.services.observability.metrics: cannot listen on {address}: {error}") from error
    server.set_app(_with_liveness(make_wsgi_app(registry), alive))
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


def _with_liveness(metrics: WSGIApplication, alive: Callable[[], bool]) -> WSGIApplication:
    """``/live`` next to the metrics: on a port that probes reach, in a thread that no hanging event loop holds up."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/live":
            return metrics(environ, start_response)
        status, body = ("200 OK", b"alive\n") if alive() else ("503 Service Unavailable", b"no worker serves\n")
        start_response(status, [("content-type", "text/plain"), ("content-length", str(len(body)))])
        return [body]

    return answer

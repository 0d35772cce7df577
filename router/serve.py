"""The service: ext_proc, REST and metrics around one pipeline, from start to drained."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import uvicorn
from prometheus_client import start_http_server
from pydantic import ValidationError

from router.api import create_app
from router.config import Config, Loaded
from router.config.schema import ApiSettings, MetricsSettings
from router.extproc.server import ExtProcServer
from router.inference import Bundle, BundleError, Encoder
from router.pipeline import Pipeline
from router.signals.domain import TopicParameters
from router.telemetry import Metrics

log = logging.getLogger(__name__)


def build(loaded: Loaded, bundle: Bundle, tokenizers: dict[str, bytes], metrics: Metrics) -> Pipeline:
    """A pipeline over the bundle's first trunk. Call inside the event loop that will use it.

    Raises:
        BundleError: the bundle's parameters for topics do not parse, or a configured domain needs them and they are
            not there.
    """
    try:
        topics = TopicParameters.model_validate(bundle.topics)
    except ValidationError as error:
        raise BundleError(f"signal bundle: topics: {error}") from error
    trunk = bundle.trunks[0]
    settings = loaded.config.global_.inference
    encoder = Encoder(trunk, tokenizers[trunk.name], bundle.checksum, settings, metrics)
    return Pipeline(loaded, encoder, topics, metrics)


def bundle_path(config: Config, repository: Path) -> Path:
    """Where the bundle's manifest is: where the configuration says, else in the model repository."""
    named = config.global_.inference.bundle
    return Path(named) if named else repository / "bundle.json"


async def serve(loaded: Loaded, bundle: Bundle, tokenizers: dict[str, bytes]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        RuntimeError: an address cannot be bound, or the REST token's variable is empty.
    """
    config = loaded.config
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    metrics = Metrics()
    pipeline = build(loaded, bundle, tokenizers, metrics)
    extproc = ExtProcServer(
        pipeline.route,
        host=config.global_.services.extproc.host,
        port=config.global_.services.extproc.port,
        max_body_bytes=config.global_.router.max_body_bytes,
    )
    async with (
        _metrics(config.global_.services.observability.metrics, metrics),
        _rest(config.global_.services.api, pipeline),
        _watched(pipeline),
    ):
        await extproc.start()
        fields = {"generation": pipeline.generation, "extproc": extproc.port, "warnings": len(loaded.warnings)}
        log.info("serving", extra={"fields": fields})
        await stop.wait()
        log.info("draining", extra={"fields": {"open_streams": extproc.open_streams}})
        await extproc.drain(config.global_.router.drain_seconds)
    log.info("stopped")


@asynccontextmanager
async def _watched(pipeline: Pipeline) -> AsyncIterator[None]:
    encoder = pipeline.encoder
    if encoder is None:
        yield
        return
    watch = asyncio.create_task(encoder.run(pipeline.prepare))
    try:
        yield
    finally:
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
        await encoder.close()


@asynccontextmanager
async def _rest(settings: ApiSettings, pipeline: Pipeline) -> AsyncIterator[None]:
    token = os.environ.get(settings.token_env, "") if settings.token_env else None
    if token == "":
        raise RuntimeError(f"global.services.api.token_env: the variable {settings.token_env} is empty")
    app = create_app(lambda: pipeline, token)
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
async def _metrics(settings: MetricsSettings, metrics: Metrics) -> AsyncIterator[None]:
    if not settings.enabled:
        yield
        return
    try:
        server, thread = start_http_server(settings.port, settings.host, metrics.registry)
    except OSError as error:
        address = f"{settings.host}:{settings.port}"
        raise RuntimeError(f"global.services.observability.metrics: cannot listen on {address}: {error}") from error
    try:
        yield
    finally:
        server.shutdown()
        thread.join()

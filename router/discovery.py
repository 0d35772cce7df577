"""Asking the backends which LoRA adapters they have loaded: once for all workers.

A backend may be slow, hostile or broken: each is asked by itself, under a deadline for the whole answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from functools import partial
from http.client import HTTPConnection, HTTPException
from threading import Thread

import orjson

from triton_router.config import Config
from triton_router.config.schema import ProviderModel
from triton_router.config.services import AdapterDiscovery
from triton_router.names import MODELS_PATH
from triton_router.selection import LoadedAdapters
from triton_router.selection.adapters import listed_adapters
from triton_router.telemetry import Metrics, RateLimitedLog

log = logging.getLogger(__name__)

# A list of some ten thousand adapters.
LARGEST_ANSWER = 8 * 1024 * 1024
# Backends asked at once.
AT_ONCE = 16


class Discovery:
    """Tells ``know`` what is loaded, over and over. ``current`` is the configuration in use; ``addresses`` maps an
    endpoint to where it really is, where that differs."""

    def __init__(
        self,
        current: Callable[[], Config],
        know: Callable[[LoadedAdapters], None],
        metrics: Metrics,
        addresses: Mapping[str, str] | None = None,
    ) -> None:
        self._current, self._know, self._metrics = current, know, metrics
        self._addresses = addresses or {}
        self._last = LoadedAdapters()
        self._few = asyncio.Semaphore(AT_ONCE)
        self._odd = RateLimitedLog(log, "a backend's list of models cannot be used")

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            settings = self._current().global_.router.adapter_discovery
            if settings.enabled:
                await self.ask()
            await asyncio.sleep(settings.interval_seconds)

    async def ask(self) -> LoadedAdapters:
        """Ask every backend of a model that may have adapters, and tell what they said."""
        config = self._current()
        settings = config.global_.router.adapter_discovery
        models = [model for model in config.providers.models if _may_have_adapters(config, model)]
        answers = await asyncio.gather(*(self._of(model, settings) for model in models))
        loaded = {model.name: names for model, names in zip(models, answers, strict=True) if names is not None}
        for name, adapters in loaded.items():
            self._metrics.adapters_loaded.labels(name).set(len(adapters))
            before = self._last.by_base.get(name)
            if adapters != before:
                fields = {"model": name, "count": len(adapters), "gone": sorted((before or set()) - adapters)[:10]}
                log.info("adapters", extra={"fields": fields})
        self._last = LoadedAdapters(loaded)
        self._know(self._last)
        return self._last

    async def _of(self, model: ProviderModel, settings: AdapterDiscovery) -> frozenset[str] | None:
        """What all of a model's backends that answer have loaded; ``None`` if that says nothing about absence."""
        if any(ref.adapters_on_demand or ref.external for ref in model.backend_refs):
            return None
        names = [model.name, *filter(None, [model.provider_model_id])]
        addresses = [self._addresses.get(ref.endpoint, ref.endpoint) for ref in model.backend_refs]
        replies = await asyncio.gather(
            *(self._listed(address, names, settings.timeout_seconds) for address in addresses)
        )
        answers = [answer for answer in replies if answer is not None]
        # Envoy may send a request to any of them.
        return frozenset.intersection(*answers) if answers else None

    async def _listed(self, address: str, names: list[str], seconds: float) -> frozenset[str] | None:
        opened: list[socket.socket] = []
        try:
            async with self._few, asyncio.timeout(seconds):
                return await _in_thread(partial(_ask, address, names, seconds, opened))
        except (OSError, HTTPException):
            return None
        except Exception as error:
            self._odd.warn(backend=address, reason=f"{type(error).__name__}: {error}"[:200])
            return None
        finally:
            # Wakes a thread that still reads.
            for each in opened:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


def _may_have_adapters(config: Config, model: ProviderModel) -> bool:
    if config.global_.router.adapter_discovery.expose:
        return True
    if any(card.name == model.name and card.loras for card in config.routing.modelCards):
        return True
    return any(decision.hints.adapters for decision in config.decisions())


def _ask(address: str, names: list[str], seconds: float, opened: list[socket.socket]) -> frozenset[str] | None:
    """``seconds`` is for each read; ``opened`` gets the socket, for who has no patience for all of them."""
    host, _, port = address.rpartition(":")
    connection = HTTPConnection(host.strip("[]"), int(port), timeout=seconds)
    try:
        connection.connect()
        opened.append(connection.sock)
        connection.request("GET", MODELS_PATH)
        response = connection.getresponse()
        body = response.read(LARGEST_ANSWER)
        return listed_adapters(orjson.loads(body), names) if response.status == 200 else None
    finally:
        connection.close()


def _in_thread(work: Callable[[], frozenset[str] | None]) -> asyncio.Future[frozenset[str] | None]:
    """Run ``work`` in a thread that holds up neither others nor the end of the process, whatever it waits for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[frozenset[str] | None] = loop.create_future()

    def settle(result: frozenset[str] | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        # The loop may have ended by now.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    Thread(target=run, name="adapters", daemon=True).start()
    return answer

"""Asking the backends which LoRA adapters they have loaded: once for all workers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from typing import Any

from triton_router.config import Config
from triton_router.config.schema import ProviderModel
from triton_router.config.services import AdapterDiscovery
from triton_router.names import MODELS_PATH
from triton_router.selection import LoadedAdapters
from triton_router.selection.adapters import listed_adapters
from triton_router.telemetry import Metrics

log = logging.getLogger(__name__)

# A list of some ten thousand adapters.
LARGEST_ANSWER = 8 * 1024 * 1024
# Backends asked at once.
THREADS = 16


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
        # Threads of its own: backends that do not answer must not hold up what else the process does in threads.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="adapters")

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
        loaded = {model.name: found for model, found in zip(models, answers, strict=True) if found is not None}
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
        if any(ref.adapters_on_demand for ref in model.backend_refs):
            return None
        names = [model.name, *filter(None, [model.provider_model_id])]
        addresses = [self._addresses.get(ref.endpoint, ref.endpoint) for ref in model.backend_refs]
        loop = asyncio.get_running_loop()
        asked = (
            loop.run_in_executor(self._threads, _ask, address, names, settings.timeout_seconds) for address in addresses
        )
        answers = [answer for answer in await asyncio.gather(*asked) if answer is not None]
        # Envoy may send a request to any of them.
        return frozenset.intersection(*answers) if answers else None


def _may_have_adapters(config: Config, model: ProviderModel) -> bool:
    if config.global_.router.adapter_discovery.expose:
        return True
    if any(card.name == model.name and card.loras for card in config.routing.modelCards):
        return True
    return any(decision.hints.adapters for decision in config.routing.decisions)


def _ask(address: str, names: list[str], timeout: float) -> frozenset[str] | None:
    host, _, port = address.rpartition(":")
    connection = HTTPConnection(host.strip("[]"), int(port), timeout=timeout)
    try:
        connection.request("GET", MODELS_PATH)
        response = connection.getresponse()
        body = response.read(LARGEST_ANSWER)
        if response.status != 200:
            return None
        answer: Any = json.loads(body)
        return listed_adapters(answer, names)
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()

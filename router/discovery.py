"""Asking the backends which LoRA adapters they have loaded: once for all workers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import orjson

from triton_router import polling
from triton_router.config import Config
from triton_router.config.schema import ProviderModel
from triton_router.config.services import AdapterDiscovery
from triton_router.names import MODELS_PATH
from triton_router.selection import LoadedAdapters
from triton_router.selection.adapters import listed_adapters
from triton_router.telemetry import Metrics, RateLimitedLog

log = logging.getLogger(__name__)

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
        try:
            async with self._few:
                body = await polling.get(address, MODELS_PATH, seconds)
                return listed_adapters(orjson.loads(body), names) if body is not None else None
        except Exception as error:
            self._odd.warn(backend=address, reason=f"{type(error).__name__}: {error}"[:200])
            return None


def _may_have_adapters(config: Config, model: ProviderModel) -> bool:
    if config.global_.router.adapter_discovery.expose:
        return True
    if any(card.name == model.name and card.loras for card in config.routing.modelCards):
        return True
    return any(decision.hints.adapters for decision in config.decisions())

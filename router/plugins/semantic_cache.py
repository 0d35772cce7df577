"""`semantic-cache`: marks a decision whose responses are cached; `router/cache` does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_router.config.plain import at
from triton_router.config.plugins import SemanticCachePlugin
from triton_router.plugins.contract import PluginInput, PluginKind

if TYPE_CHECKING:
    from triton_router.config.document import Path
    from triton_router.config.report import Report


class SemanticCache(PluginKind):
    SETTINGS = SemanticCachePlugin

    @classmethod
    def check(cls, plugin: dict[str, Any], path: Path, data: Any, report: Report) -> None:
        if at(data, "global", "stores", "semantic_cache", "enabled") is False:
            report.warning((*path, "type"), "global.stores.semantic_cache is off: nothing is cached")

    @classmethod
    def apply(cls, settings: Any, target: PluginInput) -> None:
        """Nothing: whether a response is cached depends on the whole request, once all plugins are done."""

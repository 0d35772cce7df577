"""`router_replay`: says whether requests of a decision can be looked up; the pipeline keeps the records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from triton_router.config.plain import at
from triton_router.config.plugins import RouterReplayPlugin
from triton_router.plugins.contract import PluginInput, PluginKind

if TYPE_CHECKING:
    from triton_router.config.document import Path
    from triton_router.config.report import Report


class RouterReplay(PluginKind):
    SETTINGS = RouterReplayPlugin

    @classmethod
    def check(cls, plugin: dict[str, Any], path: Path, data: Any, report: Report) -> None:
        enabled = at(plugin, "configuration", "enabled") is not False
        if enabled and at(data, "global", "services", "router_replay", "enabled") is not True:
            report.warning((*path, "type"), "global.services.router_replay is switched off: nothing is recorded")

    @classmethod
    def apply(cls, settings: Any, target: PluginInput) -> None:
        """Nothing: a request is recorded once its outcome is known."""

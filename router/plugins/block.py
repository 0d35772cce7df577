"""`block`: a decision that refuses; :mod:`triton_router.protection` looks at it before any routing."""

from __future__ import annotations

from typing import Any

from triton_router.config.document import Path
from triton_router.config.plugins import BlockPlugin, BlockSettings
from triton_router.config.report import Report
from triton_router.plugins.contract import PluginInput, PluginKind


class Block(PluginKind):
    SETTINGS = BlockPlugin

    @classmethod
    def check(cls, plugin: dict[str, Any], path: Path, data: Any, report: Report) -> None:
        decision = data["routing"]["decisions"][path[path.index("decisions") + 1]]
        if not isinstance(decision, dict):
            return
        if decision.get("rules") is None:
            report.error((*path, "type"), "a decision without rules would block every request")
        settings = plugin.get("configuration")
        if isinstance(settings, dict) and settings.get("on_unknown") == "route" and not decision.get("modelRefs"):
            message = "`route` needs modelRefs: the models that may see unchecked requests"
            report.error((*path, "configuration", "on_unknown"), message)

    @classmethod
    def apply(cls, settings: BlockSettings, target: PluginInput) -> None:
        """Nothing: a request that gets here is let through."""

"""`confine`: requests that only the decision's models may see; :mod:`triton_router.protection` looks before routing."""

from __future__ import annotations

from typing import Any

from triton_router.config.document import Path
from triton_router.config.plain import at
from triton_router.config.plugins import ConfinePlugin, ConfineSettings
from triton_router.config.report import Report
from triton_router.plugins.contract import PluginInput, PluginKind


class Confine(PluginKind):
    SETTINGS = ConfinePlugin

    @classmethod
    def check(cls, plugin: dict[str, Any], path: Path, data: Any, report: Report) -> None:
        decision = data["routing"]["decisions"][path[path.index("decisions") + 1]]
        if not at(decision, "modelRefs"):
            report.error((*path, "type"), "`confine` needs modelRefs: the models that may see these requests")
        if at(decision, "rules") is None:
            report.error((*path, "type"), "a decision without rules would confine every request")

    @classmethod
    def apply(cls, settings: ConfineSettings, target: PluginInput) -> None:
        """Nothing: where the request goes is settled."""

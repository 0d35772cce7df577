"""`mask`: personal data that no model sees; :mod:`triton_router.protection` looks before routing."""

from __future__ import annotations

from typing import Any

from triton_router.config.document import Path
from triton_router.config.plain import MODELS, at, names, rules
from triton_router.config.plugins import MaskPlugin, MaskSettings
from triton_router.config.report import Report
from triton_router.plugins.contract import PluginInput, PluginKind


class Mask(PluginKind):
    SETTINGS = MaskPlugin

    @classmethod
    def check(cls, plugin: dict[str, Any], path: Path, data: Any, report: Report) -> None:
        decision = path[:-2]
        if not any(rule["type"] == "pii" for where, rule in rules(data) if where[: len(decision)] == decision):
            report.error((*path, "type"), "`mask` needs a rule of type `pii`, which selects the data to mask")
        trusted, models = at(plugin, "configuration", "trusted_models"), names(data, *MODELS)
        for index, name in enumerate(trusted if isinstance(trusted, list | tuple) else ()):
            report.must_exist((*path, "configuration", "trusted_models", index), "model", name, models)

    @classmethod
    def apply(cls, settings: MaskSettings, target: PluginInput) -> None:
        """Nothing: what the model must not see is gone by now."""

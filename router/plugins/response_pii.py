"""`response_pii`: personal data that no answer may have; :mod:`triton_router.screening` reads the answers."""

from __future__ import annotations

from typing import Any

from triton_router import personal
from triton_router.config.document import Path
from triton_router.config.plain import at
from triton_router.config.plugins import ResponsePiiPlugin, ResponsePiiSettings
from triton_router.config.report import Report, nearest
from triton_router.plugins.contract import PluginInput, PluginKind


class ResponsePii(PluginKind):
    SETTINGS = ResponsePiiPlugin

    @classmethod
    def check(cls, plugin: dict[str, Any], path: Path, data: Any, report: Report) -> None:
        denied = at(plugin, "configuration", "pii_types_denied")
        for index, name in enumerate(denied if isinstance(denied, list | tuple) else ()):
            if name not in personal.TYPES:
                where = (*path, "configuration", "pii_types_denied", index)
                report.error(where, f"`{name}` cannot be found in answers", nearest(str(name), personal.TYPES))

    @classmethod
    def apply(cls, settings: ResponsePiiSettings, target: PluginInput) -> None:
        """Nothing: there is no answer yet."""

"""`response_jailbreak`: a head judges answers; :mod:`triton_router.judging` asks it as they pass."""

from __future__ import annotations

from triton_router.config.plugins import ResponseJailbreakPlugin, ResponseJailbreakSettings
from triton_router.plugins.contract import PluginInput, PluginKind


class ResponseJailbreak(PluginKind):
    SETTINGS = ResponseJailbreakPlugin

    @classmethod
    def apply(cls, settings: ResponseJailbreakSettings, target: PluginInput) -> None:
        """Nothing: there is no answer yet."""

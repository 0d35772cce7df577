"""`hallucination`: answers are compared with the request's documents; :mod:`triton_router.grounding` does it."""

from __future__ import annotations

from triton_router.config.plugins import HallucinationPlugin, HallucinationSettings
from triton_router.plugins.contract import PluginInput, PluginKind


class Hallucination(PluginKind):
    SETTINGS = HallucinationPlugin

    @classmethod
    def apply(cls, settings: HallucinationSettings, target: PluginInput) -> None:
        """Nothing: there is no answer yet."""

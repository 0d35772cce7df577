"""`fast_response`: a fixed answer at once; nothing was generated, so the usage counts nothing."""

from __future__ import annotations

from triton_router.completion import Completion
from triton_router.config.plugins import FastResponsePlugin, FastResponseSettings
from triton_router.plugins.contract import PluginInput, PluginKind


class FastResponse(PluginKind):
    SETTINGS = FastResponsePlugin

    @classmethod
    def apply(cls, settings: FastResponseSettings, target: PluginInput) -> Completion:
        """The answer, under the name of the model that was selected."""
        return target.request.answer(settings.message, target.model)

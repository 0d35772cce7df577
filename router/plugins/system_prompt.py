"""`system_prompt`: what the model is told before the conversation. Where that stands is the dialect's affair."""

from __future__ import annotations

from triton_router.config.plugins import SystemPromptPlugin, SystemPromptSettings
from triton_router.plugins.contract import PluginInput, PluginKind


class SystemPrompt(PluginKind):
    SETTINGS = SystemPromptPlugin

    @classmethod
    def apply(cls, settings: SystemPromptSettings, target: PluginInput) -> None:
        """Give the model the text in the way of ``settings.mode``; what others said keeps its exact text."""
        target.request.tell(settings.system_prompt, settings.mode)

"""Plugins of a decision, applied in the order written; each is a module."""

from __future__ import annotations

from collections.abc import Sequence

from router.chat import ChatRequest
from router.config.schema import Plugin, SystemPromptPlugin
from router.plugins.system_prompt import apply_system_prompt


def apply(plugins: Sequence[Plugin], request: ChatRequest) -> None:
    """Let each enabled plugin rewrite ``request``."""
    for plugin in plugins:
        if isinstance(plugin, SystemPromptPlugin) and plugin.configuration.enabled:
            apply_system_prompt(plugin.configuration, request)


__all__ = ["apply"]

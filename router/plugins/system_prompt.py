"""`system_prompt`: what the model is told before the conversation. Where that stands is the dialect's affair."""

from __future__ import annotations

from triton_router.config.schema import SystemPromptSettings
from triton_router.dialects import ModelRequest


def apply_system_prompt(settings: SystemPromptSettings, request: ModelRequest) -> None:
    """Give the model the text in the way of ``settings.mode``; what others said keeps its exact text."""
    request.tell(settings.system_prompt, settings.mode)

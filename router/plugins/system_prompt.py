"""`system_prompt`: what the model is told before the conversation. Where that stands is the dialect's affair."""

from __future__ import annotations

from triton_router.config.plugins import SystemPromptPlugin, SystemPromptSettings
from triton_router.dialects import ModelRequest
from triton_router.dialects.request import SYSTEM_ROLES, Mode
from triton_router.plugins.contract import PluginInput, PluginKind

# What people write into a chat front end's box for it fits in here; an agent's directions never do.
ONE_LINE = 200


class SystemPrompt(PluginKind):
    SETTINGS = SystemPromptPlugin

    @classmethod
    def apply(cls, settings: SystemPromptSettings, target: PluginInput) -> None:
        """Give the model the text in the way of ``settings.mode``; what others said keeps its exact text."""
        if not settings.system_prompt:
            return
        mode = settings.mode if settings.mode != "auto" else _mode_for(target.request)
        target.request.tell(settings.system_prompt, mode)


def _mode_for(request: ModelRequest) -> Mode:
    """`replace` where the client's own system text is missing or one line, otherwise `insert`."""
    own = "\n".join(turn.text for turn in request.turns() if turn.role in SYSTEM_ROLES).strip()
    return "replace" if len(own) <= ONE_LINE and "\n" not in own else "insert"

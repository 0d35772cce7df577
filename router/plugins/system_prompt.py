"""`system_prompt`: what the model is told before the conversation. `developer` messages count as system text."""

from __future__ import annotations

import json
from typing import Any

from router.chat import SYSTEM_ROLES, ChatRequest, with_member
from router.config.schema import SystemPromptSettings


def apply_system_prompt(settings: SystemPromptSettings, request: ChatRequest) -> None:
    """Put the text into the message list in the way of ``settings.mode``; other messages keep their exact text."""
    prompt = settings.system_prompt
    message = json.dumps({"role": "system", "content": prompt}, separators=(",", ":"))

    def edit(texts: list[str], messages: list[Any]) -> list[str]:
        system = [index for index, item in enumerate(messages) if item.get("role") in SYSTEM_ROLES]
        match settings.mode:
            case "replace":
                return [message, *(text for index, text in enumerate(texts) if index not in system)]
            case "append":
                after = system[-1] + 1 if system else 0
                return [*texts[:after], message, *texts[after:]]
            case "insert" if system:
                first = system[0]
                joined = with_member(texts[first], "content", _joined(prompt, messages[first].get("content")))
                return [*texts[:first], joined, *texts[first + 1 :]]
            case _:
                return [message, *texts]

    request.edit_messages(edit)


def _joined(prompt: str, content: Any) -> Any:
    if isinstance(content, list):
        return [{"type": "text", "text": prompt}, *content]
    return f"{prompt}\n\n{content}" if content else prompt

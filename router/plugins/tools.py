"""`tools`: which of the client's tools the model gets to see."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from router.chat import ChatRequest
from router.config.schema import ToolsSettings

# Mean nothing without tools, and some backends refuse them then.
ONLY_WITH_TOOLS = ("tool_choice", "parallel_tool_calls")


def filter_tools(settings: ToolsSettings, request: ChatRequest) -> None:
    """Keep the allowed tools, each as it is written; without any left, take out what speaks of tools."""
    tools = request.get("tools")
    if settings.mode == "passthrough" or not isinstance(tools, list) or not tools:
        return
    kept = {index for index, tool in enumerate(tools) if settings.mode != "none" and _allowed(settings, _name(tool))}
    if len(kept) == len(tools):
        return
    if not kept:
        for member in ("tools", *ONLY_WITH_TOOLS):
            request.remove(member)
        return
    request.keep_elements("tools", kept)
    chosen = _name(request.get("tool_choice"))
    if chosen and chosen not in {_name(tools[index]) for index in kept}:
        request.remove("tool_choice")


def _name(tool: Any) -> str:
    function = tool.get("function") if isinstance(tool, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    return name if isinstance(name, str) else ""


def _allowed(settings: ToolsSettings, name: str) -> bool:
    if any(fnmatchcase(name, pattern) for pattern in settings.block_tools):
        return False
    return settings.allow_tools is None or any(fnmatchcase(name, pattern) for pattern in settings.allow_tools)

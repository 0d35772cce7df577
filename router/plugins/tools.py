"""`tools`: which of the client's tools the model gets to see."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from triton_router.config.plugins import ToolsPlugin, ToolsSettings
from triton_router.dialects import ModelRequest
from triton_router.dialects.request import named
from triton_router.plugins.contract import PluginInput, PluginKind

# Mean nothing without tools, and some backends refuse them then.
ONLY_WITH_TOOLS = ("tool_choice", "parallel_tool_calls")


class Tools(PluginKind):
    SETTINGS = ToolsPlugin

    @classmethod
    def apply(cls, settings: ToolsSettings, target: PluginInput) -> None:
        _filter(settings, target.request)


def _filter(settings: ToolsSettings, request: ModelRequest) -> None:
    """Keep the allowed tools, each as it is written; without any left, take out what speaks of tools."""
    tools = request.get("tools")
    if settings.mode == "passthrough" or not isinstance(tools, list) or not tools:
        return
    allowed = {index for index, tool in enumerate(tools) if settings.mode != "none" and _allowed(settings, _name(tool))}
    if len(allowed) == len(tools):
        return
    if not allowed:
        for member in ("tools", *ONLY_WITH_TOOLS):
            request.remove(member)
        return
    request.keep_elements("tools", allowed)
    left = {_name(tools[index]) for index in allowed}
    if not left.issuperset(_chosen(request.get("tool_choice"))):
        request.remove("tool_choice")


def _name(tool: Any) -> str:
    """A tool's name; a tool that the backend itself provides has none, and goes by its type."""
    return _own_name(tool) or named(tool, "type") if isinstance(tool, dict) else ""


def _chosen(choice: Any) -> list[str]:
    """The tools that a `tool_choice` names."""
    if not isinstance(choice, dict):
        return []
    listed = choice.get("tools")
    if isinstance(listed, list):
        return [_name(tool) for tool in listed]
    return [name] if (name := _own_name(choice)) else []


def _own_name(tool: dict[str, Any]) -> str:
    function = tool.get("function")
    return named(function if isinstance(function, dict) else tool, "name")


def _allowed(settings: ToolsSettings, name: str) -> bool:
    if any(fnmatchcase(name, pattern) for pattern in settings.block_tools):
        return False
    return settings.allow_tools is None or any(fnmatchcase(name, pattern) for pattern in settings.allow_tools)

"""`tools`: which of the client's tools the model gets to see."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from triton_router.config.plugins import ToolsPlugin, ToolsSettings
from triton_router.dialects import ModelRequest
from triton_router.dialects.request import named
from triton_router.plugins.contract import PluginInput, PluginKind

# Lists of tools in the four APIs, each with the members that mean nothing without it: some backends refuse them then.
LISTS = {
    "tools": ("tool_choice", "parallel_tool_calls", "max_tool_calls"),
    # Before there were tools; some backends read both.
    "functions": ("function_call",),
    # Servers whose tools the backend asks for itself.
    "mcp_servers": (),
}
# Members that are a tool by being there, and the name that the lists of a configuration know it by.
SWITCHES = {"web_search_options": "web_search"}


class Tools(PluginKind):
    SETTINGS = ToolsPlugin

    @classmethod
    def apply(cls, settings: ToolsSettings, target: PluginInput) -> None:
        if settings.mode == "passthrough":
            return
        for name, beside in LISTS.items():
            _filter(settings, target.request, name, beside)
        for name, tool in SWITCHES.items():
            if not _allowed(settings, tool):
                target.request.remove(name)


def _filter(settings: ToolsSettings, request: ModelRequest, name: str, beside: tuple[str, ...]) -> None:
    """Keep the allowed tools of a list, each as it is written; without any left, take out what speaks of them."""
    tools = request.get(name)
    listed = tools if isinstance(tools, list) else []
    allowed = {index for index, tool in enumerate(listed) if _allowed(settings, _name(tool))}
    if listed and len(allowed) == len(listed):
        return
    if not allowed:
        # A list that is none may still be one to a backend.
        for member in (name, *beside):
            request.remove(member)
        return
    request.keep_elements(name, allowed)
    remaining = {_name(listed[index]) for index in allowed}
    for choice in beside:
        if not remaining.issuperset(_tool_names(request.get(choice))):
            request.remove(choice)


def _name(tool: Any) -> str:
    """A tool's name; a tool that the backend itself provides has none, and goes by its type."""
    return _own_name(tool) or named(tool, "type") if isinstance(tool, dict) else ""


def _tool_names(choice: Any) -> list[str]:
    """The tools that a `tool_choice` names."""
    if not isinstance(choice, dict):
        return []
    listed = choice.get("tools")
    if not isinstance(listed, list):
        allowed = choice.get("allowed_tools")
        listed = allowed.get("tools") if isinstance(allowed, dict) else None
    if isinstance(listed, list):
        return [_name(tool) for tool in listed]
    return [name] if (name := _own_name(choice)) else []


def _own_name(tool: dict[str, Any]) -> str:
    """The name of a function, of a custom tool, or of a server with tools."""
    inner = next((tool[kind] for kind in ("function", "custom") if isinstance(tool.get(kind), dict)), tool)
    return named(inner, "name") or named(inner, "server_label") or named(inner, "mcp_server_name")


def _allowed(settings: ToolsSettings, name: str) -> bool:
    if settings.mode == "none" or any(fnmatchcase(name, pattern) for pattern in settings.block_tools):
        return False
    return settings.allow_tools is None or any(fnmatchcase(name, pattern) for pattern in settings.allow_tools)

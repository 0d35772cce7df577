"""Plugins of a decision, applied in the order written; each is a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from triton_router.completion import Completion
from triton_router.config.schema import (
    FastResponsePlugin,
    HeaderMutationPlugin,
    Plugin,
    RequestParamsPlugin,
    SystemPromptPlugin,
    ToolsPlugin,
)
from triton_router.dialects import ModelRequest
from triton_router.plugins.fast_response import fast_response
from triton_router.plugins.header_mutation import HeaderChanges, change_headers
from triton_router.plugins.request_params import limit_params
from triton_router.plugins.system_prompt import apply_system_prompt
from triton_router.plugins.tools import filter_tools


def apply(
    plugins: Sequence[Plugin], request: ModelRequest, headers: Mapping[str, str], model: str
) -> HeaderChanges | Completion:
    """Let each enabled plugin rewrite ``request``. An answer ends the row: no backend is asked.

    ``headers`` are the request's, in lower case; ``model`` is the name that an answer carries.
    """
    changes = HeaderChanges()
    for plugin in plugins:
        if not plugin.configuration.enabled:
            continue
        match plugin:
            case SystemPromptPlugin():
                apply_system_prompt(plugin.configuration, request)
            case RequestParamsPlugin():
                limit_params(plugin.configuration, request)
            case ToolsPlugin():
                filter_tools(plugin.configuration, request)
            case HeaderMutationPlugin():
                change_headers(plugin.configuration, headers, changes)
            case FastResponsePlugin():
                return fast_response(plugin.configuration, request, model)
    return changes


__all__ = ["Completion", "HeaderChanges", "apply"]

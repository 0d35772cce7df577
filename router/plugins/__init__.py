"""Plugins of a decision, applied in the order written; each kind is a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from triton_router.completion import Completion
from triton_router.plugins.contract import HeaderChanges, PluginInput, PluginKind

if TYPE_CHECKING:
    from triton_router.config.plugins import Plugin
    from triton_router.dialects import ModelRequest


def apply(
    plugins: Sequence[Plugin], request: ModelRequest, headers: Mapping[str, str], model: str
) -> HeaderChanges | Completion:
    """Let each enabled plugin rewrite ``request``. An answer ends the row: no backend is asked.

    ``headers`` are the request's, in lower case; ``model`` is the name that an answer carries.
    """
    if not plugins:
        return HeaderChanges()
    # Late: the registry needs the schema, which needs this package where another one brings plugins.
    from triton_router.plugins.registry import kinds

    target = PluginInput(request, headers, model)
    for plugin in plugins:
        if plugin.configuration.enabled:
            completion = kinds()[type(plugin)].apply(plugin.configuration, target)
            if completion is not None:
                return completion
    return target.changes


__all__ = ["Completion", "HeaderChanges", "PluginInput", "PluginKind", "apply"]

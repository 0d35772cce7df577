"""Every kind of plugin, one line each; other packages add theirs through the entry point group of `config.kinds`."""

from __future__ import annotations

from functools import cache
from typing import Any

from triton_router.config.kinds import PLUGIN_GROUP, PluginSettings, installed
from triton_router.config.plain import DECISIONS, items
from triton_router.config.report import Report
from triton_router.plugins.block import Block
from triton_router.plugins.confine import Confine
from triton_router.plugins.contract import PluginKind
from triton_router.plugins.fast_response import FastResponse
from triton_router.plugins.hallucination import Hallucination
from triton_router.plugins.header_mutation import HeaderMutation
from triton_router.plugins.mask import Mask
from triton_router.plugins.request_params import RequestParams
from triton_router.plugins.response_jailbreak import ResponseJailbreak
from triton_router.plugins.response_pii import ResponsePii
from triton_router.plugins.router_replay import RouterReplay
from triton_router.plugins.semantic_cache import SemanticCache
from triton_router.plugins.system_prompt import SystemPrompt
from triton_router.plugins.tools import Tools

_KINDS: tuple[type[PluginKind], ...] = (
    SystemPrompt,
    HeaderMutation,
    RequestParams,
    Tools,
    FastResponse,
    SemanticCache,
    RouterReplay,
    Block,
    Confine,
    Mask,
    ResponsePii,
    ResponseJailbreak,
    Hallucination,
)


@cache
def kinds() -> dict[type[PluginSettings], type[PluginKind]]:
    """Kinds by the class of their settings."""
    return {kind.SETTINGS: kind for kind in (*_KINDS, *installed(PLUGIN_GROUP).values())}


def check(data: Any, report: Report) -> None:
    """Each kind once a decision, and what each finds wrong."""
    by_type = {name: kind for settings, kind in kinds().items() for name in settings.names()}
    for path, decision in items(data, DECISIONS):
        earlier: set[type[PluginKind]] = set()
        for where, plugin in items(decision, ("plugins",), below=path):
            kind = by_type.get(str(plugin.get("type")))
            if kind is None:
                continue
            if kind in earlier:
                report.error((*where, "type"), f"plugin `{plugin['type']}` is declared twice")
            earlier.add(kind)
            kind.check(plugin, where, data, report)

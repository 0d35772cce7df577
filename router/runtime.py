"""A configuration compiled once: what each part of the router needs, handed on in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from triton_router.access import Access
from triton_router.config import Config, Loaded, leaves
from triton_router.config.plugins import SemanticCachePlugin, SemanticCacheSettings
from triton_router.config.schema import Decision
from triton_router.config.services import (
    AuditSettings,
    CacheSettings,
    Identity,
    McpSettings,
    OverloadSettings,
    ReplaySettings,
    TracingSettings,
    UsageSettings,
)
from triton_router.decisions import Settling


@dataclass(frozen=True, slots=True)
class CacheRuntime:
    """How requests use the semantic cache.

    ``decisions`` has the settings of the decisions that use it, by name. ``compares``: some of them look for questions
    that mean the same. ``one_candidate``: no decision chooses among models by chance or by conversation.
    """

    settings: CacheSettings
    identity: Identity
    decisions: Mapping[str, SemanticCacheSettings]
    compares: bool
    one_candidate: bool


@dataclass(frozen=True, slots=True)
class JournalRuntime:
    """What a request leaves behind: ``scores`` go into its log line, ``audit`` and ``replay`` are ``None`` when off."""

    decisions: tuple[Decision, ...]
    scores: bool
    audit: AuditSettings | None
    replay: ReplaySettings | None


@dataclass(frozen=True, slots=True)
class Runtime:
    """One generation of the configuration, compiled.

    ``generation`` is the first twelve digits of the file's SHA-256. ``hint_threshold`` is the least confidence with
    which an MCP server's hints count. ``access`` has who may ask what. ``settling`` has the decisions' rules compiled.

    It has 14 attributes: one for each part that reads it.
    """

    generation: str
    config: Config
    decisions: tuple[Decision, ...]
    strategy: str
    settling: Settling
    session_header: str
    hint_threshold: float
    access: Access
    overload: OverloadSettings
    usage: UsageSettings
    journal: JournalRuntime
    tracing: TracingSettings | None
    cache: CacheRuntime | None
    mcp: McpSettings | None


def compile_runtime(loaded: Loaded) -> Runtime:
    """Compile a checked configuration."""
    config = loaded.config
    services, decisions = config.global_.services, config.routing.decisions
    observability = services.observability
    mcp = config.global_.model_catalog.modules.classifier.mcp
    kinds = {str(rule.type) for decision in decisions for rule in leaves(decision)}
    return Runtime(
        generation=loaded.digest[:12],
        config=config,
        decisions=decisions,
        strategy=config.routing.strategy,
        settling=Settling(decisions, config.routing.strategy),
        session_header=config.global_.router.session_header,
        hint_threshold=mcp.threshold if mcp else 0.0,
        access=Access(
            services.authz,
            config.routing.signals.of("authz"),
            needs_identity="authz" in kinds and not services.authz.fail_open,
        ),
        overload=services.extproc.overload,
        usage=observability.usage,
        journal=JournalRuntime(
            decisions,
            observability.logging.scores,
            observability.audit if observability.audit.enabled else None,
            services.router_replay if services.router_replay.enabled else None,
        ),
        tracing=observability.tracing if observability.tracing.enabled else None,
        cache=_cache(config),
        mcp=mcp if mcp is not None and mcp.enabled else None,
    )


def _cache(config: Config) -> CacheRuntime | None:
    settings, decisions = config.global_.stores.semantic_cache, config.routing.decisions
    users = {name: plugin for name, plugin in ((each.name, _cache_plugin(each)) for each in decisions) if plugin}
    if not settings.enabled or not users:
        return None
    return CacheRuntime(
        settings,
        config.global_.services.authz.identity,
        users,
        compares=any(plugin.mode != "exact" for plugin in users.values()),
        one_candidate=all(len(each.modelRefs) < 2 for each in decisions),
    )


def _cache_plugin(decision: Decision) -> SemanticCacheSettings | None:
    """The settings of the decision's first cache plugin, if that is switched on."""
    plugins = (plugin.configuration for plugin in decision.plugins if isinstance(plugin, SemanticCachePlugin))
    first = next(plugins, None)
    return first if first is not None and first.enabled else None

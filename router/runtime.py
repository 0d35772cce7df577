"""A configuration compiled once: what each part of the router needs, handed on in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from triton_router.access import Access
from triton_router.config import Config, Loaded, leaves
from triton_router.config.observability import AuditSettings, TracingSettings, UsageSettings
from triton_router.config.parts import PartsSettings
from triton_router.config.plugins import SemanticCachePlugin, SemanticCacheSettings
from triton_router.config.schema import Decision
from triton_router.config.services import CacheSettings, Identity, McpSettings, OverloadSettings, ReplaySettings
from triton_router.decisions import Choosing, Settling
from triton_router.parts import PartReader, Shape
from triton_router.protection import Protection


@dataclass(frozen=True, slots=True)
class CacheRuntime:
    """How the requests of one recipe use the semantic cache.

    ``decisions`` has the settings of the decisions that use it, by name. ``compares``: some of them look for questions
    that mean the same. ``one_candidate``: no decision chooses among models by chance or by conversation.
    """

    recipe: str
    settings: CacheSettings
    identity: Identity
    decisions: Mapping[str, SemanticCacheSettings]
    compares: bool
    one_candidate: bool


@dataclass(frozen=True, slots=True)
class JournalRuntime:
    """What a request leaves behind: ``scores`` go into its log line, ``audit`` and ``replay`` are ``None`` when off.

    ``kept_headers`` are those that a kept request keeps: they name the conversation and the caller.
    """

    scores: bool
    audit: AuditSettings | None
    replay: ReplaySettings | None
    kept_headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RecipeRuntime:
    """One routing table, compiled. ``name`` is empty for the file's own `routing`.

    ``config`` has this table in the place of `routing`. ``settling`` has the decisions' rules compiled;
    ``decisions`` are those that route, ``protection`` has those that protect.
    ``needs_identity``: a request is refused where a decision asks for the caller's role and nobody vouches for the
    caller. ``cache`` is ``None`` where no decision uses it.
    """

    name: str
    config: Config
    decisions: tuple[Decision, ...]
    choosing: Choosing
    settling: Settling
    protection: Protection
    needs_identity: bool
    cache: CacheRuntime | None


@dataclass(frozen=True, slots=True)
class Runtime:
    """One generation of the configuration, compiled.

    ``generation`` is the first twelve digits of the file's SHA-256. ``recipes`` starts with that of `routing`.
    ``hint_threshold`` is the least confidence with which an MCP server's hints count. ``cache`` is that of the first
    recipe that uses one: they share its store.

    It has 13 attributes: one for each part that reads it.
    """

    generation: str
    config: Config
    recipes: tuple[RecipeRuntime, ...]
    session_header: str
    hint_threshold: float
    access: Access
    overload: OverloadSettings
    usage: UsageSettings
    journal: JournalRuntime
    tracing: TracingSettings | None
    cache: CacheRuntime | None
    mcp: McpSettings | None
    reader: PartReader


def compile_runtime(loaded: Loaded) -> Runtime:
    """Compile a checked configuration."""
    config = loaded.config
    services, observability = config.global_.services, config.global_.services.observability
    identity = services.authz.identity
    mcp = config.global_.model_catalog.modules.classifier.mcp
    recipes = (_recipe("", config), *(_recipe(each.name, config.of(each)) for each in config.recipes))
    return Runtime(
        generation=loaded.digest[:12],
        config=config,
        recipes=recipes,
        session_header=config.global_.router.session_header,
        hint_threshold=mcp.threshold if mcp else 0.0,
        access=Access(
            services.authz,
            [binding for each in recipes for binding in each.config.routing.signals.of("authz")],
            needs_identity=any(each.needs_identity for each in recipes),
        ),
        overload=services.extproc.overload,
        usage=observability.usage,
        journal=JournalRuntime(
            observability.logging.scores,
            observability.audit if observability.audit.enabled else None,
            services.router_replay if services.router_replay.enabled else None,
            (
                config.global_.router.session_header,
                identity.user_id_header,
                identity.user_groups_header,
                identity.tenant_header,
            ),
        ),
        tracing=observability.tracing if observability.tracing.enabled else None,
        cache=next((recipe.cache for recipe in recipes if recipe.cache is not None), None),
        mcp=mcp if mcp is not None and mcp.enabled else None,
        reader=_reader(config.global_.router.parts),
    )


@lru_cache(8)
def _reader(settings: PartsSettings) -> PartReader:
    """One for equal settings: what one configuration has read, another one that is compared need not read."""
    shapes = (Shape(each.client, each.reading, each.tag or "", each.label or "") for each in settings.shapes)
    return PartReader(shapes, settings.conversation)


def _recipe(name: str, config: Config) -> RecipeRuntime:
    protection, strategy = Protection.of(config), config.routing.strategy
    decisions = protection.routing(config.routing.decisions)
    kinds = {str(rule.type) for decision in config.routing.decisions for rule in leaves(decision)}
    return RecipeRuntime(
        name=name,
        config=config,
        decisions=decisions,
        choosing=Choosing(decisions, strategy),
        settling=Settling(decisions, strategy),
        protection=protection,
        needs_identity="authz" in kinds and not config.global_.services.authz.fail_open,
        cache=_cache(name, config),
    )


def _cache(recipe: str, config: Config) -> CacheRuntime | None:
    settings, decisions = config.global_.stores.semantic_cache, config.routing.decisions
    users = {name: plugin for name, plugin in ((each.name, _cache_plugin(each)) for each in decisions) if plugin}
    if not settings.enabled or not users:
        return None
    return CacheRuntime(
        recipe,
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

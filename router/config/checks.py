"""Checks of a configuration's meaning: existing names, unique names, compatible settings.

They work on plain data. Each kind of signal or plugin, and Envoy's part, has its own checks in its own module.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from triton_router.config.document import Path
from triton_router.config.kinds import SIGNALS, Key, SignalSettings
from triton_router.config.plain import CARDS, DECISIONS, MODELS, at, decisions, items, mappings, names, rules
from triton_router.config.plugins import SemanticCachePlugin
from triton_router.config.report import Report, nearest
from triton_router.config.section import scheme_and_path
from triton_router.config.services import RouterSettings
from triton_router.config.signals import FOREIGN_TYPES, inactive


def check(data: Any, report: Report) -> None:
    """Report the mistakes in ``data``, the plain data of a canonical configuration."""
    for each in _CHECKS:
        each(data, report)


def _adapters(data: Any) -> dict[str, list[str]]:
    return {str(card.get("name")): names(card, "loras") for _, card in items(data, CARDS)}


def _unique_names(data: Any, report: Report) -> None:
    lists = (("routing", "signals", kind.LIST) for kind in SIGNALS.values())
    for where in (MODELS, CARDS, DECISIONS, *lists):
        earlier: set[str] = set()
        for path, item in items(data, where):
            name = str(item.get("name"))
            if name in earlier:
                report.error((*path, "name"), f"`{name}` is declared twice")
            earlier.add(name)


def _adapters_are_told_apart(data: Any, report: Report) -> None:
    owners: dict[str, Any] = {}
    for path, card in items(data, CARDS):
        for where, lora in items(card, ("loras",), below=path):
            name, owner = lora.get("name"), card.get("name")
            if not isinstance(name, str):
                continue
            if owners.setdefault(name, owner) != owner:
                message = f"`{owners[name]}` declares `{name}` too; clients that name it get that one; modelRefs get"
                report.warning((*where, "name"), f"{message} the one of their own `model`")


def _models_exist(data: Any, report: Report) -> None:
    models, adapters = dict.fromkeys(names(data, *MODELS)), _adapters(data)
    if not models:
        # Kubernetes brings models and routing there, and so does the page that `setup` opens.
        elsewhere = at(data, "global", "router", "config_source") == "kubernetes" or ("setup",) in report.inactive
        routed = elsewhere or any(True for _ in decisions(data))
        message = "there is no model, so every request gets an error" if routed else "at least one model is needed"
        (report.warning if routed else report.error)(MODELS, message)
    targets = [*models, *(name for names in adapters.values() for name in names)]
    for key in ("default_model", "embedding_model"):
        where = ("providers", "defaults", key)
        report.must_exist(where, "model or adapter", at(data, *where), targets)
    for path, card in items(data, CARDS):
        if isinstance(card.get("name"), str) and card["name"] not in models:
            message = f"no model named `{card['name']}` in providers.models"
            report.error((*path, "name"), message, nearest(card["name"], models))


def _fallbacks_have_candidates(data: Any, report: Report) -> None:
    targets = [*names(data, *MODELS), *(name for adapters in _adapters(data).values() for name in adapters)]
    tables = [("global", "router"), ("routing",)]
    decisions = list(items(data, DECISIONS))
    for path, section in [*((path, at(data, *path)) for path in tables), *decisions]:
        policy = at(section, "fallback")
        if not isinstance(policy, dict):
            continue
        models = policy.get("models")
        for index, name in enumerate(models if isinstance(models, list) else ()):
            report.must_exist((*path, "fallback", "models", index), "model or adapter", name, targets)
        choosers = [section] if path[:2] == DECISIONS else [decision for _, decision in decisions]
        alone = not any(len(list(items(decision, ("modelRefs",)))) > 1 for decision in choosers)
        if policy.get("enabled", True) and not models and alone:
            message = "no decision here has a second candidate, so nothing can take over; give `fallback.models`"
            report.warning((*path, "fallback"), message)


def _models_are_served(data: Any, report: Report) -> None:
    named = at(data, "global", "router", "auto_model_names") or RouterSettings().auto_model_names
    virtual = [*(named if isinstance(named, list | tuple) else ()), at(data, "global", "router", "auto_model_name")]
    for path, model in items(data, MODELS):
        if not model.get("backend_refs"):
            message = f"model `{model.get('name')}` has no backend_refs: the gateway in front must know its address; "
            report.warning(path, message + "`up` and `envoy` cannot reach it")
        if model.get("name") is not None and model["name"] in virtual:
            report.error(
                (*path, "name"),
                f"`{model['name']}` is a name that asks the router to choose; give the model a different name",
            )


def _algorithms_can_act(data: Any, report: Report) -> None:
    """What an algorithm compares is known of its candidates."""
    models = {str(model.get("name")): model for _, model in items(data, MODELS)}
    cards = {str(card.get("name")): card for _, card in items(data, CARDS)}
    reads_streams = at(data, "global", "services", "observability", "usage", "streams") is True
    for path, decision in items(data, DECISIONS):
        algorithm = decision.get("algorithm")
        refs = [ref for _, ref in items(decision, ("modelRefs",))]
        if not isinstance(algorithm, dict) or len(refs) < 2:
            continue
        kind, where = algorithm.get("type"), (*path, "algorithm")
        factors = ("quality", "latency", "cost") if kind == "multi_factor" else ()
        counts = {name for name in factors if at(algorithm, "multi_factor", "weights", name) != 0}
        counts |= {"cost_aware": {"cost"}, "latency_aware": {"latency"}}.get(str(kind), set())
        prices = {str(ref["model"]): at(models.get(str(ref["model"])), "pricing") for ref in refs if "model" in ref}
        unpriced = [name for name, price in prices.items() if not price]
        currencies = {str(at(price, "currency") or "USD") for price in prices.values() if price}
        if "cost" in counts and len(currencies) > 1:
            report.error(where, f"prices in {' and '.join(sorted(currencies))} cannot be compared")
        elif "cost" in counts and unpriced:
            report.warning(where, f"without `pricing`, {', '.join(unpriced)} count as free")
        unrated = [name for ref in refs if ref.get("score") is None and isinstance(name := ref.get("model"), str)
                   and at(cards.get(name), "quality_score") is None]  # fmt: skip
        if "quality" in counts and unrated:
            report.warning(where, f"without `quality_score`, {', '.join(unrated)} get the best candidate's quality")
        if "latency" in counts and not reads_streams:
            message = "without streams, the time to their headers counts as the time to the first token: "
            report.warning(where, message + "`global.services.observability.usage.streams` reads them")


def _addresses_can_be_asked(data: Any, report: Report) -> None:
    """A certificate has a name, and a key a value."""
    for path, model in items(data, MODELS):
        for where, ref in items(model, ("backend_refs",), below=path):
            host = str(ref.get("endpoint") or str(ref.get("base_url") or "").partition("//")[2])
            if (https := scheme_and_path(ref)) and https[0] == "https" and re.match(r"[0-9.]+(:|/|$)|\[", host):
                report.error(
                    (*where, "base_url"), "certificates are verified for a host name, but this is an IP address"
                )
            name = ref.get("api_key_env")
            if isinstance(name, str) and not os.environ.get(name):
                message = f"environment variable `{name}` is not set; without it requests to this model get 503"
                report.warning((*where, "api_key_env"), message)


def _families_exist(data: Any, report: Report) -> None:
    families = at(data, "providers", "defaults", "reasoning_families")
    defined = list(families) if isinstance(families, dict) else []
    for path, model in items(data, MODELS):
        family = model.get("reasoning_family")
        if isinstance(family, str) and family not in defined:
            message = f"no reasoning family named `{family}`; reasoning is never switched"
            report.warning((*path, "reasoning_family"), message, nearest(family, defined))


def _references_exist(data: Any, report: Report) -> None:
    models, adapters, declared = dict.fromkeys(names(data, *MODELS)), _adapters(data), _declared(data)
    for path, decision in items(data, DECISIONS):
        for where, ref in items(decision, ("modelRefs",), below=path):
            model, adapter = ref.get("model"), ref.get("lora_name")
            report.must_exist((*where, "model"), "model", model, models)
            if str(model) in models and isinstance(adapter, str) and adapter not in adapters.get(str(model), []):
                message = f"model `{model}` has no adapter named `{adapter}`"
                report.error((*where, "lora_name"), message, nearest(adapter, adapters.get(str(model), [])))
        _rule_references_exist(declared, decision.get("rules"), (*path, "rules"), report)


def _rule_references_exist(declared: Mapping[str, Collection[str]], rule: Any, path: Path, report: Report) -> None:
    if not isinstance(rule, dict):
        return
    kind, name = str(rule.get("type")), rule.get("name")
    if kind in FOREIGN_TYPES:
        inactive(kind, (*path, "type"), "a rule that depends on one never matches", report)
    elif kind in SIGNALS:
        _signal_exists(declared[kind], (kind, name), (*path, "name"), report)
    for where, condition in items(rule, ("conditions",), below=path):
        _rule_references_exist(declared, condition, where, report)


def _declared(data: Any) -> dict[str, dict[str, None]]:
    """The names that rules may use, in declared order, by kind of signal."""
    return {
        kind: {name: None for _, signal in _signals(data, settings) for name in settings.rule_names(signal)}
        for kind, settings in SIGNALS.items()
    }


def _signal_exists(declared: Collection[str], key: tuple[str, Any], path: Path, report: Report) -> None:
    kind, name = key
    if isinstance(name, str) and name not in declared:
        where = f"routing.signals.{SIGNALS[kind].LIST}"
        report.error(path, f"no {kind} named `{name}` in {where}", nearest(name, declared))


def _signals(data: Any, settings: type[SignalSettings]) -> Iterator[tuple[Path, dict[str, Any]]]:
    yield from items(data, ("routing", "signals", settings.LIST))


def _signals_are_used(data: Any, report: Report) -> None:
    used = {(rule.get("type"), str(rule.get("name"))) for _, rule in rules(data)}
    declared = _declared(data)
    for settings in SIGNALS.values():
        for path, signal in _signals(data, settings):
            for kind, name in settings.reads(signal):
                used.add((kind, name))
                if kind in SIGNALS:
                    _signal_exists(declared[kind], (kind, name), _place(signal, (kind, name), path), report)
    for kind, settings in SIGNALS.items():
        for path, signal in () if settings.COMPETE else _signals(data, settings):
            names_in_rules = settings.rule_names(signal)
            if names_in_rules and not any((kind, name) in used for name in names_in_rules):
                report.warning(path, f"no decision uses the {kind} signal `{signal.get('name')}`; it is not evaluated")


def _place(signal: dict[str, Any], key: Key, path: Path) -> Path:
    """Where ``signal``, which stands at ``path``, names the other one."""
    return next((where for where, each in mappings(signal, path) if (each.get("type"), each.get("name")) == key), path)


def _hints_exist(data: Any, report: Report) -> None:
    models = names(data, *MODELS)
    for path, decision in items(data, DECISIONS):
        named = at(decision, "hints", "models")
        for index, name in enumerate(named if isinstance(named, list) else []):
            report.must_exist((*path, "hints", "models", index), "model", name, models)


def _api_is_guarded(data: Any, report: Report) -> None:
    api = at(data, "global", "services", "api")
    if not isinstance(api, dict) or api.get("token_env") is not None:
        return
    if api.get("host", "127.0.0.1") not in ("127.0.0.1", "::1", "localhost"):
        path = ("global", "services", "api", "host")
        report.error(path, "a REST service beyond loopback needs `token_env`")


_TRACING = ("global", "services", "observability", "tracing")
_OTLP = ("opentelemetry.exporter.otlp.proto.grpc", "opentelemetry.exporter.otlp.proto.http")


def _tracing_can_run(data: Any, report: Report) -> None:
    if at(data, *_TRACING, "enabled") is not True:
        return
    if not all(map(_installed, ("opentelemetry.sdk.trace", *_OTLP))):
        message = 'tracing needs: pip install "triton-router[tracing]"'
        report.error((*_TRACING, "enabled"), message)
    sampled, rate = at(data, *_TRACING, "sampling", "type") or "always_on", at(data, *_TRACING, "sampling", "rate")
    if rate not in (None, 1) and str(sampled).endswith(("always_on", "always_off")):
        report.warning((*_TRACING, "sampling", "rate"), f"`{sampled}` has no rate; `traceidratio` has one")


_STORE = ("global", "stores", "semantic_cache")


def _store_can_run(data: Any, report: Report) -> None:
    caches = SemanticCachePlugin.names()
    cached = any(
        plugin.get("type") in caches for _, each in items(data, DECISIONS) for _, plugin in items(each, ("plugins",))
    )
    module = {"redis": "redis", "milvus": "pymilvus"}.get(str(at(data, *_STORE, "backend_type")))
    if cached and module is not None and at(data, *_STORE, "enabled") is not False and not _installed(module):
        extra = at(data, *_STORE, "backend_type")
        report.error((*_STORE, "backend_type"), f'a cache in {extra} needs: pip install "triton-router[{extra}]"')


def _installed(module: str) -> bool:
    """Whether ``module`` could be imported, without doing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


_CHECKS: tuple[Callable[[Any, Report], None], ...] = (
    _unique_names,
    _adapters_are_told_apart,
    _models_exist,
    _fallbacks_have_candidates,
    _models_are_served,
    _addresses_can_be_asked,
    _families_exist,
    _references_exist,
    _signals_are_used,
    _hints_exist,
    _algorithms_can_act,
    _api_is_guarded,
    _tracing_can_run,
    _store_can_run,
)

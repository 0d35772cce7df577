"""Files of vLLM Semantic Router: what it spells in another way becomes the canonical form, in place.

v0.3 and 0.4.0 differ from each other too. Both spellings are read; a problem is reported where the user wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Any, get_args

from triton_router.config import foreign_signals, knowledge, projections
from triton_router.config.converted import Converted, Mistake
from triton_router.config.document import Path
from triton_router.config.kinds import PLUGINS
from triton_router.config.limits import PROVIDERS
from triton_router.config.plain import CARDS, MODELS, at, decisions, items, names, switch, tables
from triton_router.config.report import Report
from triton_router.config.schema import PORTS, ReasoningFamily
from triton_router.config.section import BASE_URL, HOST_AND_PORT, scheme_and_path
from triton_router.config.selection import INACTIVE_ALGORITHMS

# What 0.4.0 calls what is named otherwise here, by the section that it stands in.
_RENAMED: dict[tuple[str, ...], dict[str, str]] = {
    ("providers", "defaults"): {"model": "default_model", "reasoning_effort": "default_reasoning_effort"},
    ("global", "stores"): {"response_cache": "semantic_cache"},
}

# Plugins of theirs that this version may lack; those that check responses are there to protect.
_PLUGINS = frozenset(
    {"content_safety", "context_compression", "image_gen", "memory", "prompt_cache", "rag",
     "shadow_dispatch", "tool_selection", "jailbreak", "pii"}
)  # fmt: skip
_PROTECTIVE_PLUGINS = frozenset({"content_safety", "jailbreak", "pii"})


_STORE = ("global", "stores", "semantic_cache")
_STORES = frozenset({"hybrid", "qdrant", "valkey"})
_CLASSIFIERS = ("global", "model_catalog", "modules", "classifier")
_REPLAY = ("global", "services", "router_replay")
# What keeps an entry for ever there.
_YEAR = 365 * 86_400
_TRACING = ("global", "services", "observability", "tracing")
_STRATEGY = ("global", "router", "strategy")
_REASONING = frozenset(get_args(ReasoningFamily.model_fields["type"].annotation))
# What all addresses of a model share.
_SHARED = ("protocol", "ca_file", "api_key", "api_key_env", "api_key_file", "auth_header", "auth_prefix",
           "extra_headers", "forward_credentials")  # fmt: skip


def adopt(data: Any, directory: FilePath, report: Report) -> Converted:
    """Rewrite ``data``, whose shape nobody has checked, into the canonical form; the result knows where it stood.

    ``directory`` is that of the file: manifests of knowledge bases are relative to it.
    """
    adopted = Converted(data if isinstance(data, dict) else {}, {(): ()})
    for section, renamed in _RENAMED.items():
        _rename(at(data, *section), section, renamed, adopted)
    _store(at(data, *_STORE), adopted, report)
    for section in (_STORE, _REPLAY):
        if at(data, *section, "ttl_seconds") == 0:
            at(data, *section)["ttl_seconds"] = _YEAR
    _strategy(data, adopted)
    _tracing(at(data, *_TRACING), report)
    for section, key in ((_STORE, "similarity_threshold"), ((*_CLASSIFIERS, "domain"), "threshold")):
        _no_threshold(at(data, *section), key)
    server = at(data, *_CLASSIFIERS, "mcp")
    if str(at(server, "transport_type")).replace("_", "-") == "streamable-http":
        server["transport_type"] = "http"
    providers = at(data, "global", "services", "authz", "providers")
    if isinstance(providers, list) and all(at(each, "type") == "static-config" for each in providers):
        # The keys of `backend_refs`, which are used anyway.
        del data["global"]["services"]["authz"]["providers"]
    for path, listener in items(data, ("listeners",)):
        if listener.get("api_keys"):
            message = "`api_keys` of a listener are not active in this version: clients need none"
            report.does_nothing((*path, "api_keys"), "api_keys", message, protects=True)
    _repeated(data, adopted)
    for path, model in items(data, MODELS):
        _reasoning(data, path, model, adopted)
        for where, ref in items(model, ("backend_refs",), below=path):
            if isinstance(protocol := ref.get("protocol"), str):
                ref["protocol"] = protocol.lower()
            _endpoint(ref, where, adopted)
            if ref.get("api_key") and ref.get("api_key_env"):
                del ref["api_key_env"]
        _addresses(path, model, report, adopted)
    _models_as_adapters(data, adopted)
    _adapters_as_models(data, adopted)
    _models_of_cards(data, adopted)
    _inactive_limits(data, report, adopted)
    for path, routing in tables(data):
        foreign_signals.adopt(data, routing, path, adopted)
        projections.adopt(routing, path, adopted)
    knowledge.adopt(data, directory, adopted)
    for path, decision in decisions(data):
        _inactive_algorithm(decision, path, report)
        _no_weights(decision)
        for where, plugin in items(decision, ("plugins",), below=path):
            for key in ("similarity_threshold", "threshold"):
                _no_threshold(plugin.get("configuration"), key)
                _no_threshold(at(plugin, "configuration", "semantic"), key)
            _cache_settings(plugin.get("configuration"), (*where, "configuration"), adopted)
        adopted.drop(decision, "plugins", path, list(_inactive_plugins(path, decision, report)))
    return adopted


def _rename(section: Any, path: Path, renamed: dict[str, str], adopted: Converted) -> None:
    for theirs, ours in renamed.items() if isinstance(section, dict) else ():
        if theirs in section and not section.get(ours):
            section[ours] = section.pop(theirs)
            adopted.origin[(*path, ours)] = (*path, theirs)


def _store(store: Any, adopted: Converted, report: Report) -> None:
    """Addresses of the cache's server, in parts."""
    if not isinstance(store, dict):
        return
    if (kind := str(store.get("backend_type"))) in _STORES:
        message = f"stores of type `{kind}` are not active in this version; responses are kept in memory"
        report.does_nothing((*_STORE, "backend_type"), "backend_type", message, protects=False)
        del store["backend_type"]
    for name, key, scheme, port in (("redis", "url", "redis", 6379), ("milvus", "uri", "http", 19530)):
        settings = store.get(name)
        connection = at(settings, "connection")
        if not isinstance(settings, dict) or not isinstance(at(connection, "host"), str) or key in settings:
            continue
        secure = "s" if switch(at(connection, "tls", "enabled")) is True else ""
        database = connection.pop("database", None)
        address = f"{scheme}{secure}://{connection.pop('host')}:{connection.pop('port', None) or port}"
        settings[key] = address + (f"/{database}" if database and name == "redis" else "")
        adopted.origin[(*_STORE, name, key)] = (*adopted.written(_STORE), name, "connection", "host")
        if name == "redis" and connection.get("password"):
            settings["password"] = connection.pop("password")
        if name == "milvus" and switch(at(connection, "auth", "enabled")) is True:
            auth = connection.pop("auth")
            settings["token"] = f"{auth.get('username') or ''}:{auth.get('password') or ''}"
        if connection.keys() <= {"tls"} and (switch(at(connection, "tls", "enabled")) is True) == bool(secure):
            del settings["connection"]
    collection = at(store, "milvus", "collection")
    if isinstance(collection, dict):
        if collection.get("name"):
            store["milvus"]["collection"] = collection["name"]
        else:
            del store["milvus"]["collection"]


def _tracing(tracing: Any, report: Report) -> None:
    """Other libraries and protocols of spans that its files name."""
    if at(tracing, "provider") in ("openinference", "openllmetry"):
        message = f"spans have OpenTelemetry's own names, not those of `{tracing.pop('provider')}`"
        report.does_nothing((*_TRACING, "provider"), "provider", message, protects=False)
    if (kind := at(tracing, "exporter", "type")) in ("jaeger", "zipkin"):
        message = f"the protocol of `{kind}` is not active in this version, so no spans are sent; `otlp` works"
        report.does_nothing((*_TRACING, "exporter", "type"), "exporter", message, protects=False)
        tracing["enabled"] = False
        del tracing["exporter"]


def _repeated(data: Any, adopted: Converted) -> None:
    """Files made from a template may declare a model once for each of its servers."""
    for where, listed in ((MODELS, "backend_refs"), (CARDS, "loras")):
        first: dict[str, dict[str, Any]] = {}
        repeated = []
        for path, entry in items(data, where):
            same = first.setdefault(str(entry.get("name")), entry)
            if same is entry or any(same.get(key) != entry.get(key) for key in {*same, *entry} - {listed}):
                continue
            adopted.problems.append(
                Mistake(
                    (*path, "name"), f"`{entry.get('name')}` is declared twice; its {listed} are joined", harmless=True
                )
            )
            repeated.append(int(path[-1]))
            own, further = same.get(listed) or [], entry.get(listed) or []
            if isinstance(own, list) and isinstance(further, list):
                same[listed] = own + [each for each in further if each not in own]
        adopted.drop(at(data, *where[:-1]), where[-1], where[:-1], repeated)


def _strategy(data: Any, adopted: Converted) -> None:
    """One strategy for all routing tables that do not say theirs."""
    strategy = at(data, *_STRATEGY)
    if strategy in (None, ""):
        return
    for path, routing in tables(data):
        if not routing.get("strategy"):
            routing["strategy"] = strategy
            adopted.origin[(*path, "strategy")] = _STRATEGY
    del data["global"]["router"]["strategy"]


def _models_of_cards(data: Any, adopted: Converted) -> None:
    """A card that requests go to is a model, also where `providers` does not have it; another one describes nothing."""
    models = names(data, *MODELS)
    targets = [ref.get("model") for _, decision in decisions(data) for _, ref in items(decision, ("modelRefs",))]
    targets.append(at(data, "providers", "defaults", "default_model"))
    unused = []
    for index, (path, card) in enumerate(items(data, CARDS)):
        name = card.get("name")
        if not isinstance(name, str) or name in models:
            continue
        if name in targets:
            adopted.append(MODELS, {"name": name}, path)
        else:
            message = f"no model named `{name}` in providers.models, and no decision asks for it"
            adopted.problems.append(Mistake((*path, "name"), message, name, tuple(models), harmless=True))
            unused.append(index)
    adopted.drop(at(data, "routing"), CARDS[-1], CARDS[:-1], unused)


def _addresses(path: Path, model: dict[str, Any], report: Report, adopted: Converted) -> None:
    """Addresses with another key, path or scheme than the first: requests do not go there."""
    refs = list(items(model, ("backend_refs",)))
    inactive = []
    for where, ref in refs[1:]:
        differ = next((key for key in _SHARED if (ref.get(key) or None) != (refs[0][1].get(key) or None)), None)
        if scheme_and_path(ref) != scheme_and_path(refs[0][1]):
            differ = "base_url"
        if differ is not None:
            message = f"`{differ}` differs from the model's first address, so this one gets no requests: "
            report.does_nothing((*path, *where), differ, message + "declare a separate model for it", protects=False)
            inactive.append(int(where[-1]))
    adopted.drop(model, "backend_refs", path, inactive)


def _endpoint(ref: dict[str, Any], path: Path, adopted: Converted) -> None:
    """An `endpoint` with a scheme or a path, or a host alone, as `host:port` or `base_url`; empty, it is not set."""
    endpoint = ref.get("endpoint")
    if isinstance(endpoint, str) and re.fullmatch(rf"{HOST_AND_PORT}/.*", endpoint) is not None:
        endpoint = f"{ref.get('protocol') or 'http'}://{endpoint}"
    if endpoint == "":
        del ref["endpoint"]
    elif isinstance(endpoint, str) and (url := re.match(BASE_URL, endpoint)) is not None:
        if url["path"].rstrip("/") in ("", "/v1"):
            ref["endpoint"] = f"{url['host']}:{url['port'] or PORTS[url['scheme']]}"
            if url["scheme"] == "https":
                ref.setdefault("protocol", "https")
        else:
            ref["base_url"] = endpoint
            del ref["endpoint"]
            adopted.origin[(*path, "base_url")] = (*path, "endpoint")
    elif isinstance(endpoint, str) and re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", endpoint):
        ref["endpoint"] = f"{endpoint}:{PORTS.get(str(ref.get('protocol')), 80)}"


def _no_threshold(section: Any, key: str) -> None:
    """Generated files write 0 where no threshold is set; everything would reach it."""
    if at(section, key) == 0:
        del section[key]


def _no_weights(decision: dict[str, Any]) -> None:
    """Generated files write 0 where no weight is set; there no weight of a candidate counts."""
    weighted = [each for _, each in items(decision, ("modelRefs",)) if "weight" in each]
    if all(each["weight"] == 0 for each in weighted):
        for each in weighted:
            del each["weight"]


def _reasoning(data: Any, path: Path, model: dict[str, Any], adopted: Converted) -> None:
    """0.4.0 lets each model say how it is told to think: by a family's name, or at once."""
    reasoning = model.get("reasoning")
    if not isinstance(reasoning, dict) or "reasoning_family" in model:
        return
    written = (*path, "reasoning")
    if str(reasoning.get("type")) in _REASONING and "parameter" in reasoning and isinstance(model.get("name"), str):
        family = str(reasoning.get("family") or model["name"])
        providers = data["providers"]
        defaults = providers.setdefault("defaults", {})
        families = defaults.setdefault("reasoning_families", {}) if isinstance(defaults, dict) else {}
        if isinstance(families, dict):
            families[family] = {"type": reasoning.pop("type"), "parameter": reasoning.pop("parameter")}
        reasoning["family"] = family
        adopted.origin[("providers", "defaults", "reasoning_families", family)] = written
    if "family" in reasoning:
        model["reasoning_family"] = reasoning.pop("family")
        adopted.origin[(*path, "reasoning_family")] = (*written, "family")
    if not reasoning:
        del model["reasoning"]


def _adapters_as_models(data: Any, adopted: Converted) -> None:
    """A modelRef may name an adapter where it should name a model; and an adapter may have a card of its own."""
    models = set(names(data, *MODELS))
    bases: dict[str, str] = {}
    for _, card in items(data, CARDS):
        for name in names(card, "loras"):
            bases.setdefault(name, str(card.get("name")))
    for path, decision in decisions(data):
        for where, ref in items(decision, ("modelRefs",), below=path):
            model = ref.get("model")
            if isinstance(model, str) and model not in models and model in bases and not ref.get("lora_name"):
                ref["model"], ref["lora_name"] = bases[model], model
                adopted.origin[(*where, "lora_name")] = (*where, "model")
    cards = [
        index
        for index, (_, card) in enumerate(items(data, CARDS))
        if (name := str(card.get("name"))) in bases and name not in models
    ]
    adopted.drop(at(data, "routing"), "modelCards", ("routing",), cards)


def _models_as_adapters(data: Any, adopted: Converted) -> None:
    """A model may also be declared as an adapter of another one; requests get it where the model is."""
    models = set(names(data, *MODELS))
    same: set[tuple[str, str]] = set()
    for path, card in items(data, CARDS):
        indices = []
        for where, lora in items(card, ("loras",), below=path):
            if isinstance(name := lora.get("name"), str) and name in models:
                message = f"`{name}` is a model of its own, so it does not count as an adapter of `{card.get('name')}`"
                adopted.problems.append(Mistake((*where, "name"), message, harmless=True))
                same.add((str(card.get("name")), name))
                indices.append(int(where[-1]))
        adopted.drop(card, "loras", path, indices)
    for path, decision in decisions(data) if same else ():
        for where, ref in items(decision, ("modelRefs",), below=path):
            if (str(ref.get("model")), str(ref.get("lora_name"))) in same:
                ref["model"] = ref.pop("lora_name")
                adopted.origin[(*where, "model")] = (*where, "lora_name")


def _inactive_algorithm(decision: dict[str, Any], path: Path, report: Report) -> None:
    algorithm = decision.get("algorithm")
    kind = at(algorithm, "type")
    if kind == "" or (kind is None and isinstance(algorithm, dict) and "type" in algorithm):
        del decision["algorithm"]
    elif str(kind) in INACTIVE_ALGORITHMS:
        message = f"algorithm `{kind}` is not active in this version; score and weight choose the model"
        report.does_nothing((*path, "algorithm", "type"), "algorithm", message, protects=False)
        report.forget_flaws((*path, "algorithm"))
        del decision["algorithm"]


def _inactive_limits(data: Any, report: Report, adopted: Converted) -> None:
    indices = []
    for path, provider in items(data, PROVIDERS):
        for where, rule in items(provider, ("rules",)):
            rule["name"] = rule.get("name") or f"rule-{int(where[-1]) + 1}"
        if provider.get("type") == "envoy-ratelimit":
            message = "this version calls no rate limit service of Envoy; the type `redis` counts for all routers"
            report.does_nothing((*path, "type"), "ratelimit", message, protects=True)
            report.forget_flaws(path)
            indices.append(int(path[-1]))
    adopted.drop(at(data, *PROVIDERS[:-1]), PROVIDERS[-1], PROVIDERS[:-1], indices)


def _inactive_plugins(path: Path, decision: dict[str, Any], report: Report) -> Iterator[int]:
    kinds = {name: settings for settings in PLUGINS for name in settings.names()}
    for where, plugin in items(decision, ("plugins",)):
        kind, configuration = str(plugin.get("type")), plugin.get("configuration")
        # They too do nothing with one that has no settings.
        enabled = configuration is not None and switch(at(configuration, "enabled")) is not False
        if kind in _PLUGINS and kind not in kinds:
            message = f"plugins of type `{kind}` are not active in this version"
            protects = enabled and kind in _PROTECTIVE_PLUGINS
            report.does_nothing((*path, *where, "type"), kind, message, protects=protects)
            report.forget_flaws((*path, *where))
            yield int(where[-1])
        elif configuration is None and kind in kinds and kinds[kind].model_fields["configuration"].is_required():
            message = f"this `{kind}` has no `configuration`: it does nothing"
            report.does_nothing((*path, *where), kind, message, protects=False)
            yield int(where[-1])


def _cache_settings(configuration: Any, path: Path, adopted: Converted) -> None:
    """The threshold of the cache's plugin may stand in a section of its own; kept for no time, nothing is."""
    if at(configuration, "ttl_seconds") == 0:
        del configuration["ttl_seconds"]
        configuration["enabled"] = False
        adopted.origin[(*path, "enabled")] = (*path, "ttl_seconds")
    if at(configuration, "scope") == "team":
        configuration["scope"] = "user"
        message = "there are no teams in this version, so nobody shares responses"
        adopted.problems.append(Mistake((*path, "scope"), message, harmless=True))
    semantic = at(configuration, "semantic")
    if semantic is None and isinstance(configuration, dict):
        configuration.pop("semantic", None)
    if isinstance(semantic, dict) and semantic.keys() <= {"similarity_threshold"}:
        del configuration["semantic"]
        if semantic and "similarity_threshold" not in configuration:
            configuration["similarity_threshold"] = semantic["similarity_threshold"]
            adopted.origin[(*path, "similarity_threshold")] = (*path, "semantic", "similarity_threshold")

"""The flat form of a configuration, as older documents write it, turned into the canonical one.

Each category becomes a domain and a decision of its name; keyword, embedding and MCP rules yield a category too, and
outrank what the classifier thinks. Every part of the result knows where it was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from pydantic import Field

from router.config.document import Path
from router.config.schema import Section

# Priorities of the decisions that a category becomes, by what tells the category.
KEYWORD, EMBEDDING, MCP, DOMAIN = 40, 30, 20, 10


# --- shape: which keys there are; their values are checked where they end up ---------------------------------------


class Endpoint(Section):
    NOT_ACTIVE = frozenset({"health_check_path", "type", "api_key", "protocol", "provider_profile"})

    name: Any = None
    address: Any = None
    port: Any = None
    weight: Any = None
    models: Any = None


class Adapter(Section):
    name: Any = None
    description: Any = None
    hidden: Any = None


class Model(Section):
    NOT_ACTIVE = frozenset(
        {"pricing", "pii_policy", "access_key", "api_format", "external_model_ids", "param_size", "capabilities",
         "quality_score", "context_window_size", "tags", "modality"}
    )  # fmt: skip

    reasoning_family: Any = None
    preferred_endpoints: Any = None
    loras: tuple[Adapter, ...] | None = None
    description: Any = None
    hidden: Any = None


class Score(Section):
    NOT_ACTIVE = frozenset({"reasoning_description"})

    model: Any = None
    lora_name: Any = None
    score: Any = None
    weight: Any = None
    use_reasoning: Any = None
    reasoning_effort: Any = None


class Category(Section):
    NOT_ACTIVE = frozenset(
        {"jailbreak_enabled", "jailbreak_threshold", "pii_enabled", "pii_threshold", "reasoning_description"}
    )

    name: Any = None
    description: Any = None
    mmlu_categories: Any = None
    examples: Any = None
    system_prompt: Any = None
    system_prompt_enabled: Any = None
    system_prompt_mode: Any = None
    semantic_cache_enabled: Any = None
    semantic_cache_similarity_threshold: Any = None
    use_reasoning: Any = None
    reasoning_effort: Any = None
    model_scores: tuple[Score, ...] | None = None


class KeywordRule(Section):
    name: Any = None
    category: Any = None
    operator: Any = None
    keywords: Any = None
    case_sensitive: Any = None
    match: Any = None
    method: Any = None
    fuzzy_match: Any = None
    fuzzy_threshold: Any = None


class EmbeddingRule(Section):
    NOT_ACTIVE = frozenset({"model", "dimension", "query_modality"})

    name: Any = None
    category: Any = None
    threshold: Any = None
    candidates: Any = None
    keywords: Any = None
    aggregation_method: Any = None
    description: Any = None


class CategoryModel(Section):
    model_id: Any = None
    threshold: Any = None
    use_cpu: Any = None
    use_modernbert: Any = None
    use_mmbert_32k: Any = None
    category_mapping_path: Any = None
    fallback_category: Any = None
    multi_label: Any = None


class McpModel(Section):
    enabled: Any = None
    transport_type: Any = None
    command: Any = None
    args: Any = None
    env: Any = None
    url: Any = None
    http_headers: Any = None
    tool_name: Any = None
    list_tool_name: Any = None
    threshold: Any = None
    timeout_seconds: Any = None
    forward_headers: Any = None
    sessions: Any = None
    max_in_flight: Any = None


class Classifier(Section):
    NOT_ACTIVE = frozenset({"pii_model", "preference_model"})

    category_model: CategoryModel | None = None
    mcp_category_model: McpModel | None = None


class FlatConfig(Section):
    """The keys of the flat form."""

    NOT_ACTIVE = frozenset(
        {"bert_model", "embedding_models", "tools", "prompt_guard", "hallucination_mitigation", "response_api",
         "router_replay", "looper", "api", "include_config_models_in_list", "clear_route_cache", "config_source",
         "fact_check_rules", "user_feedback_rules", "preference_rules", "modality_rules", "jailbreak", "pii",
         "listeners", "ratelimit", "memory", "vector_store", "model_selection", "image_gen_backends",
         "streamed_body_mode", "max_streamed_body_bytes", "streamed_body_timeout_sec", "batch_classification"}
    )  # fmt: skip

    classifier: Classifier | None = None
    vllm_endpoints: tuple[Endpoint, ...] | None = None
    models: dict[str, Model | None] | None = Field(None, alias="model_config")
    default_model: Any = None
    default_reasoning_effort: Any = None
    reasoning_families: Any = None
    categories: tuple[Category, ...] | None = None
    keyword_rules: tuple[KeywordRule, ...] | None = None
    embedding_rules: tuple[EmbeddingRule, ...] | None = None
    strategy: Any = None
    auto_model_name: Any = None
    auto_model_names: Any = None
    semantic_cache: Any = None
    observability: Any = None
    authz: Any = None
    language_rules: Any = None
    context_rules: Any = None
    structure_rules: Any = None
    complexity_rules: Any = None
    reask_rules: Any = None
    role_bindings: Any = None
    signals: Any = None
    decisions: Any = None


def is_flat(data: Any) -> bool:
    """Whether ``data`` is written in the flat form."""
    if not isinstance(data, dict) or data.keys() & {"providers", "routing", "global"}:
        return False
    known = {entry.alias or name for name, entry in FlatConfig.model_fields.items()} | FlatConfig.NOT_ACTIVE
    return bool(data.keys() & known)


# --- conversion ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Converted:
    """``data`` in the canonical form; ``origin`` is where each part of it stood.

    ``problems`` are (path as written, message, known names of what was meant) that only the flat form can have.
    """

    data: dict[str, Any] = field(default_factory=dict)
    origin: dict[Path, Path] = field(default_factory=dict)
    problems: list[tuple[Path, str, str, list[str]]] = field(default_factory=list)

    def put(self, path: Path, value: Any, source: Path) -> None:
        """Write ``value`` at ``path``; a list grows by one where the next place is named."""
        at: Any = self.data
        for step, following in pairwise(path):
            empty: Any = [] if isinstance(following, int) else {}
            if isinstance(at, list):
                if step == len(at):
                    at.append(empty)
                at = at[step]  # type: ignore[index]  # steps into lists are numbers
            else:
                at = at.setdefault(step, empty)
        if isinstance(at, list):
            at.append(value)
        else:
            at[path[-1]] = value
        self.origin[path] = source

    def written(self, path: Path) -> Path:
        """Where the user wrote what stands at ``path``."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.origin:
                return (*self.origin[path[:end]], *path[end:])
        # A section that only its parts were written for.
        return next((source for below, source in self.origin.items() if below[: len(path)] == path), path)


def convert(data: dict[str, Any]) -> Converted:
    """The canonical form of ``data``. What has another shape than expected is passed over: it is reported elsewhere."""
    converted = Converted()
    converted.put(("version",), "v0.3", ())
    converted.origin |= {("providers", "models"): ("model_config",), ("routing", "decisions"): ("categories",)}
    models = _models(data)
    _providers(data, models, converted)
    _cards(data, models, converted)
    _signals_and_decisions(data, converted)
    _classifiers(data, converted)
    for key, path in _CARRIED.items():
        if data.get(key) is not None:
            converted.put(path, data[key], (key,))
    return converted


_CARRIED: dict[str, Path] = {
    "default_model": ("providers", "defaults", "default_model"),
    "default_reasoning_effort": ("providers", "defaults", "default_reasoning_effort"),
    "reasoning_families": ("providers", "defaults", "reasoning_families"),
    "strategy": ("routing", "strategy"),
    "auto_model_name": ("global", "router", "auto_model_name"),
    "auto_model_names": ("global", "router", "auto_model_names"),
    "semantic_cache": ("global", "stores", "semantic_cache"),
    "observability": ("global", "services", "observability"),
    "authz": ("global", "services", "authz"),
    "language_rules": ("routing", "signals", "language"),
    "context_rules": ("routing", "signals", "context"),
    "structure_rules": ("routing", "signals", "structure"),
    "complexity_rules": ("routing", "signals", "complexity"),
    "reask_rules": ("routing", "signals", "reasks"),
    "role_bindings": ("routing", "signals", "role_bindings"),
}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _entries(data: Any, key: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    listed = _mapping(data).get(key)
    for index, entry in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(entry, dict):
            yield (key, index), entry


# --- models and endpoints ------------------------------------------------------------------------------------------


def _models(data: dict[str, Any]) -> dict[str, Path]:
    """Every model with where it is written: those of `model_config`, and those that are only ever named."""
    described = _mapping(data.get("model_config"))
    adapters = {lora.get("name") for model in described.values() for _, lora in _entries(model, "loras")}
    models: dict[str, Path] = {name: ("model_config", name) for name in described}
    for where, category in _entries(data, "categories"):
        for below, score in _entries(category, "model_scores"):
            if isinstance(score.get("model"), str) and not described:
                models.setdefault(score["model"], (*where, *below, "model"))
    default = data.get("default_model")
    if isinstance(default, str) and default not in adapters and not described:
        models.setdefault(default, ("default_model",))
    return models


def _providers(data: dict[str, Any], models: dict[str, Path], converted: Converted) -> None:
    endpoints = {str(entry.get("name")): (path, entry) for path, entry in _entries(data, "vllm_endpoints")}
    for index, (name, source) in enumerate(models.items()):
        described = _mapping(_mapping(data.get("model_config")).get(name))
        at: Path = ("providers", "models", index)
        converted.put(at, {"name": name}, source)
        for key in ("reasoning_family", "hidden"):
            if described.get(key) is not None:
                converted.put((*at, key), described[key], (*source, key))
        for place, chosen in enumerate(_chosen(name, described, source, endpoints, converted)):
            path, endpoint = endpoints[chosen]
            _backend(endpoint, path, (*at, "backend_refs", place), converted)


def _chosen(
    name: str, described: dict[str, Any], source: Path, endpoints: dict[str, Any], converted: Converted
) -> Iterable[str]:
    """The endpoints that serve a model: those it prefers, else those that name it, else all."""
    preferred = described.get("preferred_endpoints")
    if isinstance(preferred, list) and preferred:
        for index, wanted in enumerate(preferred):
            if wanted not in endpoints:
                where = (*source, "preferred_endpoints", index)
                converted.problems.append((where, f"no endpoint named `{wanted}`", str(wanted), list(endpoints)))
        return [wanted for wanted in preferred if wanted in endpoints]
    naming = [key for key, (_, entry) in endpoints.items() if name in (entry.get("models") or ())]
    return naming or list(endpoints)


def _backend(endpoint: dict[str, Any], source: Path, at: Path, converted: Converted) -> None:
    converted.put(at, {}, source)
    host, port = str(endpoint.get("address", "")), endpoint.get("port", "")
    for key in ("address", "port"):
        if key not in endpoint:
            converted.problems.append(((*source, key), f"`{key}` is missing", "", []))
    converted.put((*at, "endpoint"), f"[{host}]:{port}" if ":" in host else f"{host}:{port}", (*source, "address"))
    for key in ("name", "weight"):
        if endpoint.get(key) is not None:
            converted.put((*at, key), endpoint[key], (*source, key))


def _cards(data: dict[str, Any], models: dict[str, Path], converted: Converted) -> None:
    count = 0
    for name in models:
        described = _mapping(_mapping(data.get("model_config")).get(name))
        kept = {key: described[key] for key in ("description", "loras") if described.get(key) is not None}
        if not kept:
            continue
        at: Path = ("routing", "modelCards", count)
        converted.put(at, {"name": name}, ("model_config", name))
        for key, value in kept.items():
            converted.put((*at, key), value, ("model_config", name, key))
        count += 1


# --- categories ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Told:
    """A way of telling a category: ``signals`` of ``kind`` make a decision with this suffix and priority."""

    kind: str
    suffix: str
    priority: int
    signals: list[tuple[str, Path]]


def _signals_and_decisions(data: dict[str, Any], converted: Converted) -> None:
    for key in ("signals", "decisions"):
        if data.get(key) is not None:
            converted.put(("routing", key), data[key], (key,))
    categories = {str(entry.get("name")): (path, entry) for path, entry in _entries(data, "categories")}
    for index, (path, category) in enumerate(categories.values()):
        _signal("domains", index, category, path, ("name", "description", "mmlu_categories", "examples"), converted)
    told: dict[str, list[_Told]] = {name: [] for name in categories}
    _told_by_rules(data, "keyword", KEYWORD, told, converted)
    _told_by_rules(data, "embedding", EMBEDDING, told, converted)
    if _mapping(_mapping(data.get("classifier")).get("mcp_category_model")).get("enabled") not in (None, False):
        for index, (name, (path, _)) in enumerate(categories.items()):
            converted.put(("routing", "signals", "mcp", index), {"name": name}, path)
            told[name].append(_Told("mcp", "_mcp", MCP, [(name, path)]))
    for name, (path, category) in categories.items():
        for way in [*told[name], _Told("domain", "", DOMAIN, [(name, (*path, "name"))])]:
            _decision(name, path, category, way, converted)


def _signal(
    key: str, index: int, entry: dict[str, Any], source: Path, kept: Iterable[str], converted: Converted
) -> None:
    at: Path = ("routing", "signals", key, index)
    converted.put(at, {}, source)
    for name in kept:
        if entry.get(name) is not None:
            converted.put((*at, name), entry[name], (*source, name))


def _told_by_rules(
    data: dict[str, Any], kind: str, priority: int, told: dict[str, list[_Told]], converted: Converted
) -> None:
    found: dict[str, list[tuple[str, Path]]] = {}
    for path, rule in _entries(data, f"{kind}_rules"):
        key = "category" if "category" in rule else "name"
        category = str(rule.get(key))
        if category not in told:
            converted.problems.append(((*path, key), f"no category named `{category}`", category, list(told)))
            continue
        named = found.setdefault(category, [])
        name = category if not named else f"{category}_{len(named) + 1}"
        named.append((name, path))
        kept = KeywordRule.model_fields if kind == "keyword" else EmbeddingRule.model_fields
        at = sum(map(len, found.values())) - 1
        _signal(f"{kind}s", at, rule, path, set(kept) - {"name", "category", "candidates", "keywords"}, converted)
        converted.put(("routing", "signals", f"{kind}s", at, "name"), name, (*path, key))
        words = "candidates" if rule.get("candidates") is not None else "keywords"
        target = "candidates" if kind == "embedding" else "keywords"
        if rule.get(words) is not None:
            converted.put(("routing", "signals", f"{kind}s", at, target), rule[words], (*path, words))
    for category, signals in found.items():
        told[category].append(_Told(kind, f"_{kind}", priority, signals))


def _decision(name: str, source: Path, category: dict[str, Any], way: _Told, converted: Converted) -> None:
    written = converted.data.setdefault("routing", {}).setdefault("decisions", [])
    at: Path = ("routing", "decisions", len(written))
    conditions = [{"type": way.kind, "name": signal} for signal, _ in way.signals]
    decision = {
        "name": name + way.suffix,
        "priority": way.priority,
        "rules": {"operator": "OR", "conditions": conditions},
    }
    converted.put(at, decision, source)
    for index, (_, path) in enumerate(way.signals):
        converted.origin[(*at, "rules", "conditions", index)] = path
    if category.get("description") is not None:
        converted.put((*at, "description"), category["description"], (*source, "description"))
    for index, (below, score) in enumerate(_entries(category, "model_scores")):
        _candidate(score, (*source, *below), (*at, "modelRefs", index), category, source, converted)
    for index, (plugin, path) in enumerate(_plugins(category, source)):
        converted.put((*at, "plugins", index), plugin, path)


def _candidate(
    score: dict[str, Any], source: Path, at: Path, category: dict[str, Any], above: Path, converted: Converted
) -> None:
    converted.put(at, {}, source)
    for key in Score.model_fields:
        if score.get(key) is not None:
            converted.put((*at, key), score[key], (*source, key))
        elif key in ("use_reasoning", "reasoning_effort") and category.get(key) is not None:
            converted.put((*at, key), category[key], (*above, key))


def _plugins(category: dict[str, Any], source: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    if category.get("system_prompt"):
        settings = {"mode": category.get("system_prompt_mode", "replace"), "system_prompt": category["system_prompt"]}
        if category.get("system_prompt_enabled") is not None:
            settings["enabled"] = category["system_prompt_enabled"]
        yield {"type": "system_prompt", "configuration": settings}, (*source, "system_prompt")
    if category.get("semantic_cache_enabled"):
        threshold = category.get("semantic_cache_similarity_threshold")
        settings = {} if threshold is None else {"similarity_threshold": threshold}
        yield {"type": "semantic-cache", "configuration": settings}, (*source, "semantic_cache_enabled")


# --- classifiers ---------------------------------------------------------------------------------------------------


def _classifiers(data: dict[str, Any], converted: Converted) -> None:
    classifier = _mapping(data.get("classifier"))
    at: Path = ("global", "model_catalog", "modules", "classifier")
    for key, value in _mapping(classifier.get("category_model")).items():
        converted.put((*at, "domain", key), value, ("classifier", "category_model", key))
    server = _mapping(classifier.get("mcp_category_model"))
    if not server.get("enabled"):
        return
    converted.put((*at, "mcp"), {}, ("classifier", "mcp_category_model"))
    for key, value in server.items():
        if key == "transport_type" and str(value).replace("_", "-") == "streamable-http":
            value = "http"
        converted.put((*at, "mcp", key), value, ("classifier", "mcp_category_model", key))

"""Conversion of the older flat form to the canonical form.

Each category becomes a domain and a decision with its name. Keyword, embedding and MCP rules yield a category too, and
outrank the classifier. Every part of the result records its path in the flat form.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from triton_router.config.converted import Converted, Mistake
from triton_router.config.document import Loader, Path, WrittenFloat, WrittenInt
from triton_router.config.flat_form import (
    CategoryModel,
    EmbeddingRule,
    KeywordRule,
    McpModel,
    Score,
    bracketed,
)
from triton_router.config.flat_form import FlatConfig as FlatConfig
from triton_router.config.kinds import SIGNALS
from triton_router.config.plain import items, leaves_of

# Priorities of a category's decisions, by the source of the category.
KEYWORD, EMBEDDING, MCP, DOMAIN = 40, 30, 20, 10


def convert(data: dict[str, Any]) -> Converted:
    """The canonical form of ``data``. Values of an unexpected shape are skipped, because the schema reports them."""
    converted = Converted()
    converted.put(("version",), "v0.3", ())
    converted.origin |= {("providers", "models"): ("model_config",), ("routing", "decisions"): ("categories",)}
    models = _models(data, converted)
    _providers(data, models, converted)
    _cards(data, models, converted)
    _signals_as_they_are(data, converted)
    _signals_and_decisions(data, models, converted)
    _classifiers(data, converted)
    for key, path in _CARRIED.items():
        if data.get(key) is not None:
            converted.put(path, copy.deepcopy(data[key]), (key,))
    for key, value in _mapping(data.get("hallucination_mitigation")).items():
        at = (*_MODULES, "hallucination_mitigation", _JUDGES.get(key, key))
        converted.put(at, copy.deepcopy(value), ("hallucination_mitigation", key))
    return converted


_MODULES = ("global", "model_catalog", "modules")
_JUDGES = {"fact_check_model": "fact_check", "hallucination_model": "detector", "nli_model": "explainer"}
_CARRIED: dict[str, Path] = {
    "default_model": ("providers", "defaults", "default_model"),
    "default_reasoning_effort": ("providers", "defaults", "default_reasoning_effort"),
    "reasoning_families": ("providers", "defaults", "reasoning_families"),
    "strategy": ("routing", "strategy"),
    "auto_model_name": ("global", "router", "auto_model_name"),
    "auto_model_names": ("global", "router", "auto_model_names"),
    "semantic_cache": ("global", "stores", "semantic_cache"),
    "api": ("global", "services", "api"),
    "observability": ("global", "services", "observability"),
    "authz": ("global", "services", "authz"),
    "ratelimit": ("global", "services", "ratelimit"),
    "router_replay": ("global", "services", "router_replay"),
    **{key: (*_MODULES, key)
       for key in ("prompt_guard", "feedback_detector", "modality_detector")},
}  # fmt: skip
_RULES: dict[str, str] = {
    "language_rules": "language",
    "context_rules": "context",
    "structure_rules": "structure",
    "complexity_rules": "complexity",
    "reask_rules": "reasks",
    "fact_check_rules": "fact_check",
    "user_feedback_rules": "user_feedbacks",
    "modality_rules": "modality",
    "preference_rules": "preferences",
    "jailbreak": "jailbreak",
    "pii": "pii",
    "role_bindings": "role_bindings",
}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _named(data: Any, key: str) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """The entries of a list with a valid name."""
    for path, entry in items(data, (key,)):
        if isinstance(entry.get("name"), str) and entry["name"]:
            yield entry["name"], path, entry


def _is_on(value: Any) -> bool:
    """Whether a switch is on, or depends on a variable."""
    if isinstance(value, str):
        return "$" in value or value.lower() in ("true", "yes", "on", "y", "t", "1")
    return bool(value)


# --- models and endpoints ------------------------------------------------------------------------------------------


def _models(data: dict[str, Any], converted: Converted) -> dict[str, Path]:
    """Every model with its path: those of `model_config`, and those that are only referenced."""
    described = _mapping(data.get("model_config"))
    models: dict[str, Path] = {name: ("model_config", name) for name in described}
    adapters = {name for model in described.values() for name, _, _ in _named(model, "loras")}
    served = {name for _, entry in items(data, ("vllm_endpoints",)) for name in _texts(entry.get("models"))}
    declared = {*described, *adapters, *served}
    for name, where in _models_by_name(data) if data.get("vllm_endpoints") else ():
        if name in models or name in adapters:
            continue
        if name not in served and described:
            if _misspelt(name, declared):
                continue  # the reference check reports it
            message = f"`{name}` is not in `model_config`; it counts as a model that the endpoints serve"
            converted.problems.append(Mistake(where, message, harmless=True))
        models[name] = where
    return models


def _texts(value: Any) -> list[str]:
    return [text for text in _list(value) if isinstance(text, str)]


def _models_by_name(data: dict[str, Any]) -> Iterator[tuple[str, Path]]:
    """References to models outside `model_config`."""
    for key, below in (("categories", "model_scores"), ("decisions", "modelRefs")):
        for where, entry in items(data, (key,)):
            for place, reference in items(entry, (below,)):
                if isinstance(reference.get("model"), str):
                    yield reference["model"], (*where, *place, "model")
    if isinstance(data.get("default_model"), str):
        yield data["default_model"], ("default_model",)


def _misspelt(name: str, candidates: Iterable[str]) -> bool:
    """Whether ``name`` is almost a known name. Different numbers mean sizes and versions, not misspellings."""
    numbers = re.findall(r"\d+", name)
    alike = [other for other in candidates if re.findall(r"\d+", other) == numbers]
    return bool(difflib.get_close_matches(name, alike, n=1, cutoff=0.75))


def _providers(data: dict[str, Any], models: dict[str, Path], converted: Converted) -> None:
    endpoints: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path, endpoint in items(data, ("vllm_endpoints",)):
        name = endpoint.get("name")
        key = name if isinstance(name, str) else f"endpoint {path[-1]}"
        if key in endpoints:
            converted.problems.append(Mistake((*path, "name"), f"`{key}` is declared twice"))
        endpoints.setdefault(key, (path, endpoint))
    elsewhere = bool(data.get("decisions")) and not models  # an operator brings the models
    if not endpoints and not elsewhere:
        message = "at least one endpoint is needed to serve the models"
        converted.problems.append(Mistake(("vllm_endpoints",), message))
    for index, (name, source) in enumerate(models.items()):
        described = _mapping(_mapping(data.get("model_config")).get(name))
        at: Path = ("providers", "models", index)
        converted.put(at, {}, source)
        converted.put((*at, "name"), name, source)
        converted.put_each(at, described, source, ("reasoning_family", "pricing", "hidden"))
        chosen = _endpoints_of(name, described, source, endpoints, converted)
        for place, (path, endpoint) in enumerate(chosen):
            _backend(endpoint, path, (*at, "backend_refs", place), converted)
        _health_check(name, chosen, at, converted)


def _endpoints_of(
    name: str,
    described: dict[str, Any],
    source: Path,
    endpoints: dict[str, tuple[Path, dict[str, Any]]],
    converted: Converted,
) -> list[tuple[Path, dict[str, Any]]]:
    """The endpoints of a model: its preferred ones, else those that list it, else all."""
    preferred = _list(described.get("preferred_endpoints"))
    for index, endpoint in enumerate(preferred):
        if isinstance(endpoint, str) and endpoint not in endpoints:
            where = (*source, "preferred_endpoints", index)
            converted.problems.append(Mistake(where, f"no endpoint named `{endpoint}`", endpoint, tuple(endpoints)))
    choices = [endpoints[endpoint] for endpoint in dict.fromkeys(_texts(preferred)) if endpoint in endpoints]
    naming = [place for place in endpoints.values() if name in _texts(place[1].get("models"))]
    # An unknown preferred endpoint is already reported; a model without endpoints is no second mistake.
    return choices or naming or list(endpoints.values())


def _backend(endpoint: dict[str, Any], source: Path, at: Path, converted: Converted) -> None:
    converted.put(at, {}, source)
    converted.put((*at, "endpoint"), _endpoint(endpoint.get("address"), endpoint.get("port")), (*source, "address"))
    converted.put_each(at, endpoint, source, ("name", "weight", "protocol"))


def _endpoint(address: Any, port: Any) -> str:
    """``host:port``. The schema reports an invalid address or port; a placeholder replaces it here."""
    host = str(address)
    if "$" not in host:
        try:
            host = bracketed(host)
        except ValueError:
            host = "unknown"
    valid = "$" in str(port) or (re.fullmatch("[0-9]{1,5}", str(port)) and 1 <= int(port) <= 65535)
    return f"{host}:{port if valid else 1}"


def _health_check(name: str, chosen: list[tuple[Path, dict[str, Any]]], at: Path, converted: Converted) -> None:
    """The flat form has a setting per endpoint that applies to all endpoints of a model."""
    checks = [((*path, "health_check_path"), entry.get("health_check_path")) for path, entry in chosen]
    declared = [(path, value) for path, value in checks if value is not None]
    for path, value in declared:
        if value != declared[0][1]:
            message = f"the endpoints of model `{name}` need one `health_check_path`, another has `{declared[0][1]}`"
            converted.problems.append(Mistake(path, message))
    if declared:
        path, value = declared[0]
        converted.put((*at, "reliability", "health_check_path"), value, path)


def _cards(data: dict[str, Any], models: dict[str, Path], converted: Converted) -> None:
    for name in models:
        described = _mapping(_mapping(data.get("model_config")).get(name))
        if described.get("description") is None and described.get("loras") is None:
            continue
        at, source = converted.next(("routing", "modelCards")), ("model_config", name)
        converted.put(at, {}, source)
        converted.put((*at, "name"), name, source)
        converted.put_each(at, described, source, ("description", "loras"))


# --- categories ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Criterion:
    """One source of a category: ``signals`` of ``kind`` make a decision with this suffix and priority."""

    kind: str
    suffix: str
    priority: int
    signals: list[tuple[str, Path]]


def _signals_as_they_are(data: dict[str, Any], converted: Converted) -> None:
    """Signals and decisions in the canonical form; those of the categories come after them."""
    signals = _mapping(data.get("signals"))
    converted.origin[("routing", "signals")] = ("signals",)
    for key, declared in signals.items():
        at = ("routing", "signals", key)
        if isinstance(declared, list):
            _carry(declared, ("signals", key), at, converted)
        elif any(key == kind.LIST for kind in SIGNALS.values()):
            converted.problems.append(Mistake(("signals", key), "Input should be a list"))
        else:
            converted.put(at, declared, ("signals", key))
    for key, kind in _RULES.items():
        _carry(_list(data.get(key)), (key,), ("routing", "signals", kind), converted)
    _carry(_list(data.get("decisions")), ("decisions",), ("routing", "decisions"), converted)


def _carry(entries: list[Any], source: Path, to: Path, converted: Converted) -> None:
    for index, entry in enumerate(entries):
        # The reader of the result removes parts of it.
        converted.put(converted.next(to), copy.deepcopy(entry), (*source, index))


def _signals_and_decisions(data: dict[str, Any], models: dict[str, Path], converted: Converted) -> None:
    categories = list(_named(data, "categories"))
    for name, path, category in categories:
        keys = ("name", "description", "mmlu_categories", "examples")
        _signal("domains", name, (*path, "name"), category, path, keys, converted)
    criteria: dict[str, list[_Criterion]] = {name: [] for name, _, _ in categories}
    _criteria_of_rules(data, "keyword", KEYWORD, criteria, converted)
    _criteria_of_rules(data, "embedding", EMBEDDING, criteria, converted)
    if _is_on(_mapping(_mapping(data.get("classifier")).get("mcp_category_model")).get("enabled")):
        for name, path, _ in categories:
            _signal("mcp", name, (*path, "name"), {}, path, (), converted)
            criteria[name].append(_Criterion("mcp", "_mcp", MCP, [(name, (*path, "name"))]))
    for name, path, category in categories:
        candidates = list(_candidates(data, category, path, models))
        for way in [*criteria.pop(name, ()), _Criterion("domain", "", DOMAIN, [(name, (*path, "name"))])]:
            _decision(name, path, category, way, candidates, converted)
    for name, ways in criteria.items():
        for way in ways:  # of an unknown category, which is reported; its rules are checked all the same
            _decision(name, way.signals[0][1][:-1], {}, way, [], converted)


def _signal(
    key: str, name: str, named: Path, entry: dict[str, Any], source: Path, keys: Iterable[str], converted: Converted
) -> Path:
    at = converted.next(("routing", "signals", key))
    converted.put(at, {}, source)
    converted.put((*at, "name"), name, named)
    converted.put_each(at, entry, source, (key for key in keys if key != "name"))
    return at


def _criteria_of_rules(
    data: dict[str, Any], kind: str, priority: int, criteria: dict[str, list[_Criterion]], converted: Converted
) -> None:
    fields = KeywordRule.model_fields if kind == "keyword" else EmbeddingRule.model_fields
    keys = [key for key in fields if key not in ("name", "category", "candidates", "keywords")]
    words = "keywords" if kind == "keyword" else "candidates"
    categories, groups = tuple(criteria), dict[str, list[tuple[str, Path]]]()
    reserved = {name for name, _, _ in _named(data.get("signals"), f"{kind}s")}
    decided = [leaf.get("name") for path, decision in items(data, ("decisions",))
               for _, leaf in leaves_of(decision.get("rules"), path) if leaf.get("type") == kind]  # fmt: skip
    for path, rule in items(data, (f"{kind}_rules",)):
        key = "name" if rule.get("category") is None else "category"
        category = rule.get(key)
        if not isinstance(category, str) or not category:
            continue
        if category not in categories and (category in decided or (data.get("decisions") and key == "name")):
            converted.put(converted.next(("routing", "signals", f"{kind}s")), copy.deepcopy(rule), path)
            reserved.add(category)
            continue
        if category not in categories:
            converted.problems.append(Mistake((*path, key), f"no category named `{category}`", category, categories))
        own = rule.get("name")
        named = "name" if isinstance(own, str) and own else key
        name = str(own) if key == "category" and named == "name" else _free(category, reserved)
        reserved.add(name)
        at = _signal(f"{kind}s", name, (*path, named), rule, path, keys, converted)
        for written in ("keywords", "candidates"):
            if written in fields and rule.get(written) is not None:
                converted.put((*at, words), rule[written], (*path, written))
        groups.setdefault(category, []).append((name, (*path, named)))
    for category, signals in groups.items():
        criteria.setdefault(category, []).append(_Criterion(kind, f"_{kind}", priority, signals))


def _free(name: str, reserved: set[str]) -> str:
    """``name``, or ``name`` with a number if a signal already has that name."""
    numbered = (f"{name}_{number}" for number in range(2, len(reserved) + 3))
    return name if name not in reserved else next(each for each in numbered if each not in reserved)


# A candidate's path and its keys, each with its value and path.
_Candidate = tuple[Path, dict[str, tuple[Any, Path]]]


def _candidates(
    data: dict[str, Any], category: dict[str, Any], source: Path, models: dict[str, Path]
) -> Iterator[_Candidate]:
    """The candidates of a category. Reasoning comes from the candidate, else the category, else the model."""
    reasoning = {
        key: (category[key], (*source, key))
        for key in ("use_reasoning", "reasoning_effort")
        if category.get(key) is not None
    }
    scores = list(items(category, ("model_scores",)))
    if not scores and reasoning:
        yield source, _served_by_default(data, models) | reasoning
    for below, score in scores:
        where = (*source, *below)
        own = {key: (score[key], (*where, key)) for key in Score.model_fields if score.get(key) is not None}
        described = _mapping(_mapping(data.get("model_config")).get(str(score.get("model"))))
        effort = described.get("reasoning_effort")
        of_model: dict[str, tuple[Any, Path]] = {}
        if effort is not None:
            of_model["reasoning_effort"] = effort, ("model_config", str(score["model"]), "reasoning_effort")
        yield where, of_model | reasoning | own


def _served_by_default(data: dict[str, Any], models: dict[str, Path]) -> dict[str, tuple[Any, Path]]:
    """The default model as a candidate: a model, or an adapter of its base."""
    default, where = data.get("default_model"), ("default_model",)
    if not isinstance(default, str):
        return {"model": (next(iter(models)), where)} if models else {}
    for base, described in _mapping(data.get("model_config")).items():
        if default not in models and any(name == default for name, _, _ in _named(described, "loras")):
            return {"model": (base, where), "lora_name": (default, where)}
    return {"model": (default, where)}


def _decision(
    name: str,
    source: Path,
    category: dict[str, Any],
    way: _Criterion,
    candidates: list[_Candidate],
    converted: Converted,
) -> None:
    at = converted.next(("routing", "decisions"))
    converted.put(at, {}, source)
    converted.put((*at, "name"), name + way.suffix, (*source, "name"))
    converted.put((*at, "priority"), way.priority, source)
    converted.put((*at, "rules"), {"operator": "OR"}, source)
    for index, (signal, path) in enumerate(way.signals):
        below = (*at, "rules", "conditions", index)
        converted.put(below, {}, path)
        converted.put((*below, "type"), way.kind, path)
        converted.put((*below, "name"), signal, path)
    converted.put_each(at, category, source, ("description",))
    for index, (path, entries) in enumerate(candidates):
        below = (*at, "modelRefs", index)
        converted.put(below, {}, path)
        for key, (value, where) in entries.items():
            converted.put((*below, key), value, where)
    _plugins(category, source, (*at, "plugins"), converted)


def _plugins(category: dict[str, Any], source: Path, to: Path, converted: Converted) -> None:
    if category.get("system_prompt"):
        at = _plugin("system_prompt", to, (*source, "system_prompt"), converted)
        converted.put((*at, "mode"), "replace", (*source, "system_prompt_mode"))
        for key, written in (
            ("enabled", "system_prompt_enabled"),
            ("mode", "system_prompt_mode"),
            ("system_prompt", "system_prompt"),
        ):
            if category.get(written) is not None:
                converted.put((*at, key), category[written], (*source, written))
    switch = category.get("semantic_cache_enabled")
    if _is_on(switch):
        at = _plugin("semantic-cache", to, (*source, "semantic_cache_enabled"), converted)
        converted.put((*at, "enabled"), switch, (*source, "semantic_cache_enabled"))
        written = "semantic_cache_similarity_threshold"
        if category.get(written) is not None:
            converted.put((*at, "similarity_threshold"), category[written], (*source, written))


def _plugin(kind: str, to: Path, source: Path, converted: Converted) -> Path:
    """A new plugin; returns the path of its settings."""
    at = converted.next(to)
    converted.put(at, {}, source)
    converted.put((*at, "type"), kind, source)
    converted.put((*at, "configuration"), {}, source)
    return (*at, "configuration")


# --- classifiers ---------------------------------------------------------------------------------------------------


def _classifiers(data: dict[str, Any], converted: Converted) -> None:
    classifier = _mapping(data.get("classifier"))
    at: Path = ("global", "model_catalog", "modules", "classifier")
    judging = _mapping(classifier.get("category_model"))
    converted.put_each((*at, "domain"), judging, ("classifier", "category_model"), CategoryModel.model_fields)
    server, source = _mapping(classifier.get("mcp_category_model")), ("classifier", "mcp_category_model")
    if not _is_on(server.get("enabled")):
        return
    converted.put((*at, "mcp"), {}, source)
    converted.put_each((*at, "mcp"), server, source, McpModel.model_fields)
    if str(server.get("transport_type")).replace("_", "-") == "streamable-http":
        converted.put((*at, "mcp", "transport_type"), "http", (*source, "transport_type"))


# --- the canonical form as a file ----------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    """Long texts as blocks; variables in quotes unless they may become numbers and switches, as they were written."""

    plain: ClassVar[frozenset[str]] = frozenset()


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else '"' if "$" in text and text not in dumper.plain else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _integer(dumper: _Dumper, number: WrittenInt) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:int", number.text)


def _number(dumper: _Dumper, number: WrittenFloat) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:float", number.text)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(WrittenInt, _integer)
_Dumper.add_representer(WrittenFloat, _number)


def as_yaml(data: dict[str, Any], text: str) -> str:
    """``data`` in the canonical order of keys; ``text`` is the flat file, for how its variables are quoted."""
    scalars = (token for token in yaml.scan(text, Loader=Loader) if isinstance(token, yaml.ScalarToken))
    dumper = type("_Dumper", (_Dumper,), {"plain": frozenset(token.value for token in scalars if token.plain)})
    ordered = {key: data[key] for key in ("version", "providers", "routing", "global") if key in data}
    written: str = yaml.dump(ordered, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)
    return written

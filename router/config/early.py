"""The first form of vLLM Semantic Router's command line (v0.1, v0.2): `providers` beside `signals` and `decisions`.

Its keys move to where they are today, in place. None of them has a meaning in today's form.
"""

from __future__ import annotations

from typing import Any

from triton_router.config.converted import Converted, Mistake
from triton_router.config.document import Path
from triton_router.config.plain import CARDS, MODELS, at, items

_VERSIONS = frozenset({"v0.1", "v0.2", "0.1", "0.2", "0.3"})
_SERVICES = ("api", "authz", "management_api", "observability", "ratelimit", "response_api", "router_replay")
_MODULES = ("classifier", "feedback_detector", "hallucination_mitigation", "modality_detector", "prompt_compression",
            "prompt_guard")  # fmt: skip
_CATALOG = ("global", "model_catalog")
_MOVED: dict[Path, Path] = {
    **{(key,): ("routing", key) for key in ("signals", "projections", "decisions", "strategy")},
    **{("providers", key): ("providers", "defaults", key)
       for key in ("default_model", "reasoning_families", "default_reasoning_effort")},
    **{(key,): ("global", "services", key) for key in _SERVICES},
    **{(key,): (*_CATALOG, "modules", key) for key in _MODULES},
    **{(key,): ("global", "stores", key) for key in ("memory", "semantic_cache", "vector_store")},
    **{(key,): ("global", "integrations", key) for key in ("looper", "tools")},
    **{(key,): ("global", "router", key)
       for key in ("auto_model_name", "auto_model_names", "clear_route_cache", "include_config_models_in_list",
                   "model_selection")},
    ("embedding_models",): (*_CATALOG, "embeddings"),
    ("external_models",): (*_CATALOG, "external"),
    ("providers", "external_models"): (*_CATALOG, "external"),
}  # fmt: skip
_OF_CARDS = ("description", "capabilities", "context_window_size", "loras", "modality", "param_size", "quality_score",
             "tags")  # fmt: skip


def convert(data: Any) -> Converted:
    """Today's form of ``data``, which is changed; it knows where everything stood. Other forms stay as they are."""
    converted = Converted(data if isinstance(data, dict) else {}, {(): ()})
    for source, path in _MOVED.items():
        _move(converted, source, path)
    for path, model in items(data, MODELS):
        _servers(model, path, converted)
        _card(model, path, converted)
    if len(converted.origin) > 1 and str(at(data, "version")) in _VERSIONS:
        del data["version"]
    return converted


def _move(converted: Converted, source: Path, path: Path) -> None:
    parent: Any = at(converted.data, *source[:-1])
    if not isinstance(parent, dict) or source[-1] not in parent:
        return
    above = [at(converted.data, *path[:end]) for end in range(1, len(path))]
    if at(converted.data, *path) is None and all(each is None or isinstance(each, dict) for each in above):
        converted.put(path, parent.pop(source[-1]), source)


def _servers(model: dict[str, Any], path: Path, converted: Converted) -> None:
    if isinstance(model.get("endpoints"), list) and "backend_refs" not in model:
        model["backend_refs"] = model.pop("endpoints")
        converted.origin[(*path, "backend_refs")] = (*path, "endpoints")
    refs = list(items(model, ("backend_refs",), below=path))
    if isinstance(key := model.get("access_key"), str):
        del model["access_key"]
        for where, ref in refs if key else ():
            ref.setdefault("api_key", key)
            converted.origin[(*where, "api_key")] = (*path, "access_key")
    if "pii_policy" in model:
        del model["pii_policy"]
        message = "`pii_policy` is not active in this version: rules of `type: pii` say what may not pass"
        converted.problems.append(Mistake((*path, "pii_policy"), message, harmless=True))


def _card(model: dict[str, Any], path: Path, converted: Converted) -> None:
    """What describes a model stands in its card today."""
    described = [key for key in _OF_CARDS if key in model]
    declared = at(converted.data, *CARDS)
    if not described or not isinstance(declared, list | None):
        return
    cards = list(items(converted.data, CARDS))
    where, card = next((each for each in cards if each[1].get("name") == model.get("name")), (None, None))
    if where is None or card is None:
        card = {"name": model.get("name")}
        where = (*CARDS, len(declared or ()))
        converted.append(CARDS, card, path)
    for key in described:
        if key not in card:
            card[key] = model.pop(key)
            converted.origin[(*where, key)] = (*path, key)

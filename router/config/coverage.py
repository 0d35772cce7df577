"""How much of another router's configuration acts here, by its JSON Schema.

``python -m triton_router.config.coverage SCHEMA.json`` prints the table of docs/from-vsr.md. The schema of vLLM
Semantic Router is in the Python package `vllm-sr`. A key below one that does nothing does nothing either.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from triton_router.config.reference import models_in
from triton_router.config.schema import Config
from triton_router.config.section import Section


def _scoring(path: str) -> tuple[str, ...]:
    return tuple(f"{path}.{key}" for key in ("enabled", "best_weight", "top_m"))


# Read by `foreign` and by validators of sections, which the schema does not show. What is above one of them acts too.
SPELLINGS = frozenset(
    {
        *_scoring("global.model_catalog.embeddings.semantic.embedding_config.prototype_scoring"),
        *_scoring("global.model_catalog.modules.complexity.prototype_scoring"),
        "global.model_catalog.modules.prompt_guard.on_error",
        "global.model_catalog.modules.prompt_guard.threshold",
        "global.model_catalog.modules.classifier.pii.on_error",
        "global.model_catalog.modules.feedback_detector.threshold",
        "global.model_catalog.modules.hallucination_mitigation.fact_check.threshold",
        "global.model_catalog.modules.modality_detector.confidence_threshold",
        "global.router.strategy",
        "providers.defaults.model",
        "providers.defaults.reasoning_effort",
        "providers.models.reasoning.family",
        "providers.models.reasoning.type",
        "providers.models.reasoning.parameter",
        "routing.decisions.rules.label",
        "routing.decisions.rules.on_error",
        "routing.signals.complexity.composer",
        "routing.projections",
        "routing.signals.keywords.method",
        "routing.signals.keywords.fuzzy_match",
        "global.stores.response_cache.redis.connection.host",
        "global.stores.response_cache.redis.connection.port",
        "global.stores.response_cache.redis.connection.database",
        "global.stores.response_cache.redis.connection.password",
        "global.stores.response_cache.redis.connection.tls.enabled",
        "global.stores.response_cache.milvus.connection.host",
        "global.stores.response_cache.milvus.connection.port",
        "global.stores.response_cache.milvus.connection.auth.enabled",
        "global.stores.response_cache.milvus.connection.auth.username",
        "global.stores.response_cache.milvus.connection.auth.password",
        "global.stores.response_cache.milvus.connection.tls.enabled",
        "global.stores.response_cache.milvus.collection.name",
    }
)  # fmt: skip

# All that is below acts.
_WHOLE = ("routing.projections.", "routing.signals.complexity.composer.")

_RENAMED = {"response_cache": "semantic_cache"}

Counts = dict[str, Counter[str]]


def coverage(schema: dict[str, Any]) -> Counts:
    """Keys of ``schema`` that act, do nothing, or are refused, by their first two steps."""
    counts: Counts = {}
    _walk(schema, schema, Config, "", counts, ())
    return counts


def _walk(
    schema: dict[str, Any], node: Any, model: type[BaseModel] | None, path: str, counts: Counts, above: tuple[int, ...]
) -> None:
    node = _resolved(schema, node)
    if id(node) in above:
        return
    fields = {field.alias or name: field for name, field in model.model_fields.items()} if model else {}
    inactive = model.NOT_ACTIVE if model is not None and issubclass(model, Section) else frozenset[str]()
    for key, child in node.get("properties", {}).items():
        below = f"{path}.{key}".removeprefix(".")
        field = fields.get(_RENAMED.get(key, key))
        inside = next((section for section, _ in models_in(field.annotation)), None) if field is not None else None
        spelled = below.removeprefix("recipes.")
        acts = key in fields or spelled.startswith(_WHOLE) or _is_spelling(spelled)
        what = "act" if acts else "do nothing" if model is None or key in inactive else "are refused"
        counts.setdefault(_group(below), Counter())[what] += 1
        _walk(schema, child, inside, below, counts, (*above, id(node)))


def _is_spelling(path: str) -> bool:
    return any(each == path or each.startswith(f"{path}.") for each in SPELLINGS)


def _group(path: str) -> str:
    first, *rest = path.split(".")
    return ".".join([first, *rest[:1]]) if first in ("global", "providers", "routing") else first


def _resolved(schema: dict[str, Any], node: Any) -> Any:
    """What a value looks like: through references, lists, mappings by name and alternatives."""
    while True:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        elif "items" in node:
            node = node["items"]
        elif alternatives := [each for each in (*node.get("anyOf", ()), *node.get("oneOf", ())) if "$ref" in each]:
            node = alternatives[0]
        elif isinstance(node.get("additionalProperties"), dict) and "properties" not in node:
            node = node["additionalProperties"]
        else:
            return node


def table(counts: Counts) -> str:
    """``counts`` as Markdown, with their sum."""
    kinds = ("act", "do nothing", "are refused")
    rows = [(f"`{name}`", *(count[kind] for kind in kinds)) for name, count in sorted(counts.items())]
    rows.append(("all", *(sum(count[kind] for count in counts.values()) for kind in kinds)))
    lines = [" | ".join(map(str, row)) for row in (("keys of", *kinds), ("---",) * 4, *rows)]
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    print(table(coverage(json.loads(Path(sys.argv[1]).read_text()))))

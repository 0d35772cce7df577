"""Whatever stands in a file, its reader reports it: no value of another shape ends it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triton_router.config import ConfigError, loads

WHOLE = """
listeners: [{name: http, port: 8899, api_keys: []}]
providers:
  defaults: {model: one, reasoning_families: {r: {type: reasoning_effort, parameter: reasoning_effort}}}
  models:
    - {name: one, backend_refs: [{name: a, base_url: "http://a:1/v1", api_key_env: K, weight: 1}],
       pricing: {currency: USD}, reasoning: {family: f, type: chat_template_kwargs, parameter: t},
       reliability: {base_ejection_time: 1m30s}}
    - {name: two, endpoints: [{endpoint: "b:2/v1", protocol: http}], access_key: k, loras: [{name: three}],
       param_size: 7b}
routing:
  modelCards: [{name: one, loras: [{name: two}, {name: four}]}]
  fallback: {models: [two]}
  signals:
    keywords: [{name: k, operator: OR, keywords: [x], method: bm25}]
    embeddings: [{name: e, candidates: [a sentence], threshold: 0.5}]
    domains: [{name: law, mmlu_categories: [law]}]
    fact_check: [{name: no_fact_check_needed}]
    context: [{name: long, min_tokens: 1K, max_tokens: 8K}]
    structure: [{name: s, feature: {type: count, source: {type: regex, pattern: x}}, predicate: {gte: 1}}]
    complexity: [{name: c, hard: {candidates: [h]}, easy: {candidates: [e]}, composer: {type: domain, name: law}}]
    role_bindings: [{name: r, subjects: [{kind: User, name: u}], role: admin}]
    jailbreak: [{name: j, threshold: 0}, {name: answers, direction: response}]
    pii: [{name: p, pii_types_allowed: [PERSON]}]
    kb: [{name: b, kb: privacy_kb, target: {kind: group, value: private}}]
    metadata: [{name: m, key: x, predicate: {equals: y}}]
    classifiers: [{name: risk, type: local, labels: [a, b]}]
  projections:
    partitions: [{name: t, semantics: exclusive, members: [law], default: law}]
    scores: [{name: sum, method: weighted_sum, inputs: [{type: keyword, name: k, weight: 1}]}]
    mappings: [{name: bands, source: sum, method: threshold_bands, outputs: [{name: high, gte: 1}]}]
  decisions:
    - name: d
      priority: 1
      rules: {operator: AND, conditions: [{type: complexity, name: "c:hard"}, {type: classifier, name: risk, label: a},
              {conditions: [{type: projection, name: high}, {operator: NOT, conditions: [{type: pii, name: p}]}]}]}
      modelRefs: [{model: one, weight: 0}, {model: two, lora_name: three}]
      algorithm: {type: multi_factor, multi_factor: {weights: {cost: 1}}}
      plugins: [{type: response_cache, configuration: {semantic: {similarity_threshold: 0}, ttl_seconds: 0}},
                {type: response_jailbreak, configuration: {threshold: 0.5}}, {type: rag, configuration: {}}]
entrypoints: [{model_names: [fast], recipe: quick}]
recipes: [{name: quick, routing: {decisions: [{name: all, rules: {operator: AND, conditions: []}}]}}]
global:
  router: {strategy: priority, auto_model_names: [auto], allow_inactive: [safety]}
  services:
    observability: {tracing: {provider: openinference, exporter: {type: jaeger}}}
    authz: {providers: [{type: static-config}]}
    ratelimit: {providers: [{type: local-limiter, rules: [{name: l, match: {model: one}, requests_per_unit: 1}]}]}
  stores: {response_cache: {backend_type: qdrant, redis: {connection: {host: r}}, milvus: {collection: {name: c}}}}
  model_catalog:
    kbs: [{name: own, source: {path: nowhere}}]
    modules: {prompt_guard: {threshold: 0.5, on_error: block},
              classifier: {mcp: {enabled: false, transport_type: streamable-http}}}
"""

VALUES = [None, 5, -1, 2.5, True, "", "zz", "x" * 300, [], [5], [[1]], [None], {}, {"a": 1}, {"name": "q"}]


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for step, value in data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ():
        yield (*path, step)
        yield from places(value, (*path, step))


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


def test_the_file_itself_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K", "secret")
    assert [decision.name for decision in loads(WHOLE).config.decisions()] == ["d", "all"]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_value_of_another_shape_ends_the_reader(data: st.DataObject) -> None:
    document = yaml.safe_load(WHOLE)
    path = data.draw(st.sampled_from(list(places(document))))
    at(document, path[:-1])[path[-1]] = data.draw(st.sampled_from(VALUES))
    text = yaml.safe_dump(document, sort_keys=False)
    try:
        problems = loads(text).warnings
    except ConfigError as error:
        problems = error.problems
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in problems)

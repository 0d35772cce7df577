"""Files of vLLM Semantic Router's releases before v0.3, and wrappings of files."""

from __future__ import annotations

import textwrap

import pytest

from triton_router.config import ConfigError, loads

EARLY = """
version: v0.1
listeners: [{name: http, address: 0.0.0.0, port: 8888}]
signals:
  keywords: [{name: sums, operator: OR, keywords: [add]}]
  latency: [{name: quick, max_tpot: 0.05}]
decisions:
  - name: maths
    priority: 10
    rules: {operator: AND, conditions: [{type: keyword, name: sums}]}
    modelRefs: [{model: big, lora_name: algebra, use_reasoning: true}]
    algorithm: {type: elo, elo: {k_factor: 32}}
providers:
  default_model: big
  reasoning_families: {qwen3: {type: chat_template_kwargs, parameter: enable_thinking}}
  default_reasoning_effort: high
  models:
    - name: big
      param_size: 7b
      reasoning_family: qwen3
      endpoints: [{name: one, endpoint: "10.0.0.1:8000", protocol: http, weight: 1}]
      access_key: secret
      loras: [{name: algebra}]
      pii_policy: {allow_by_default: true}
  external_models: [{role: preference, model_name: x}]
observability: {metrics: {enabled: true, port: 9200}}
semantic_cache: {enabled: true, similarity_threshold: 0.8}
prompt_guard: {enabled: true, threshold: 0.7}
memory: {enabled: false}
"""


def errors(text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        loads(text)
    return [str(problem) for problem in raised.value.problems if problem.severity == "error"]


def test_the_first_form_of_the_command_line() -> None:
    config = loads(EARLY).config
    (model,), defaults = config.providers.models, config.providers.defaults
    assert (defaults.default_model, defaults.default_reasoning_effort) == ("big", "high")
    assert [(ref.endpoint, ref.api_key and ref.api_key.get_secret_value()) for ref in model.backend_refs] == [
        ("10.0.0.1:8000", "secret")
    ]
    assert [lora.name for lora in config.routing.modelCards[0].loras] == ["algebra"]
    assert [(each.name, each.modelRefs[0].lora_name) for each in config.routing.decisions] == [("maths", "algebra")]
    assert config.global_.services.observability.metrics.port == 9200
    assert config.global_.stores.semantic_cache.similarity_threshold == 0.8


@pytest.mark.parametrize(
    "empty", ["routing:", "routing: {modelCards: , signals: }", "global:", "global: {services: , stores: }"]
)
def test_an_empty_section_is_as_good_as_none(empty: str) -> None:
    text = EARLY.replace("  default_model", "  defaults:\n  default_model") + empty
    assert loads(text).config == loads(EARLY).config


def test_its_problems_have_its_own_paths_and_lines() -> None:
    text = EARLY.replace("lora_name: algebra", "lora_name: algebar").replace("weight: 1", "wieght: 1")
    assert [each.partition(":")[2] for each in errors(text)] == [
        "11: error: decisions[0].modelRefs[0].lora_name: model `big` has no adapter named `algebar`; did you mean "
        "`algebra`?",
        "21: error: providers.models[0].endpoints[0].wieght: unknown key `wieght`; did you mean `weight`?",
    ]


def test_a_rule_on_latency_never_matches() -> None:
    text = EARLY.replace("{type: keyword, name: sums}", "{type: latency, name: quick}")
    assert any("`latency` are not active" in str(warning) for warning in loads(text).warnings)


FLAT = """
vllm_endpoints: [{name: e, address: 127.0.0.1, port: 8000}]
model_config: {small: {preferred_endpoints: [e]}, large: {preferred_endpoints: [e]}}
default_model: small
embedding_rules: [{name: unused, threshold: 0.7, candidates: [a sentence]}]
latency_rules: [{name: quick, tpot_percentile: 10}]
authz: {providers: [{type: static-config}]}
signals: {complexity: [{name: c, hard: {candidates: [h]}, easy: {candidates: [e]},
                        composer: {operator: AND, conditions: [{type: domain, name: law}]}}]}
decisions:
  - name: hard
    rules: {type: complexity, name: "c:hard"}
    modelRefs: [{model: small}, {model: large}]
    algorithm: {type: knn, knn: {k: 5}}
    plugins: [{type: rag, configuration: {enabled: true}}, {type: system_prompt, configuration: {system_prompt: x}}]
"""


def test_decisions_in_the_flat_form_may_name_what_does_nothing_here() -> None:
    loaded = loads(FLAT)
    (decision,) = loaded.config.routing.decisions
    assert [plugin.type for plugin in decision.plugins] == ["system_prompt"]
    assert decision.algorithm is None
    assert decision.rules is not None
    assert [leaf.name for leaf in decision.rules.conditions] == ["c:hard", None]
    assert [signal.name for signal in loaded.config.routing.signals.of("domain")] == ["law"]
    assert any(str(each).startswith("<string>:15: warning: decisions[0].plugins[0].type") for each in loaded.warnings)


def test_an_adapter_and_a_model_of_one_name_are_the_model() -> None:
    loaded = loads("""
providers:
  defaults: {default_model: base}
  models: [{name: base, backend_refs: [{endpoint: "a:1"}]}, {name: law, backend_refs: [{endpoint: "b:1"}]}]
routing:
  modelCards: [{name: base, loras: [{name: law}, {name: art}]}]
  decisions: [{name: d, modelRefs: [{model: base, lora_name: law}, {model: base, lora_name: art}]}]
""")
    assert any("does not count as an adapter of `base`" in str(warning) for warning in loaded.warnings)
    assert [(ref.model, ref.lora_name) for ref in loaded.config.routing.decisions[0].modelRefs] == [
        ("law", None), ("base", "art"),
    ]  # fmt: skip


BASE = """
providers:
  defaults: {default_model: small}
  models: [{name: small, backend_refs: [{endpoint: "127.0.0.1:1"}]}, {name: large, backend_refs: [{endpoint: b.local}]}]
"""


@pytest.mark.parametrize(
    ("kind", "enabled"),
    [("provider: openinference", True), ("exporter: {type: jaeger, endpoint: \"http://j:14268\"}", False)],
)  # fmt: skip
def test_spans_of_other_libraries(kind: str, enabled: bool) -> None:
    text = f"{BASE}global: {{services: {{observability: {{tracing: {{enabled: true, {kind}}}}}}}}}\n"
    assert loads(text).config.global_.services.observability.tracing.enabled is enabled


def test_values_that_generated_files_have() -> None:
    config = loads(f"""{BASE}
routing:
  signals: {{keywords: [{{name: k, keywords: [a]}}], metadata: [{{name: t, key: x, predicate: {{equals: true}}}}]}}
  fallback: {{total_timeout: 1m30s, per_attempt_timeout: 1h0m0.5s}}
  decisions:
    - {{name: d, rules: {{conditions: [{{type: keyword, name: k}}, {{type: metadata, name: t}}]}},
        modelRefs: [{{model: small, weight: 0}}, {{model: large, weight: 0}}]}}
global: {{model_catalog: {{modules: {{classifier: {{mcp: {{transport_type: streamable-http, url: "http://m/mcp"}}}}}}}}}}
""").config
    (decision,), fallback = config.routing.decisions, config.routing.fallback
    assert fallback is not None
    assert (fallback.total_timeout, fallback.per_attempt_timeout) == (90, 3600.5)
    assert decision.rules is not None
    assert decision.rules.operator == "OR"
    assert [ref.weight for ref in decision.modelRefs] == [1, 1]
    assert config.providers.models[1].backend_refs[0].endpoint == "b.local:80"


@pytest.mark.parametrize(
    ("endpoint", "address"), [("h:8000/openai/v1", "http://h:8000/openai/v1"), ("h:8000/Api", "http://h:8000/Api")]
)
def test_an_endpoint_with_a_path(endpoint: str, address: str) -> None:
    config = loads(f'providers: {{models: [{{name: m, backend_refs: [{{endpoint: "{endpoint}"}}]}}]}}\n').config
    assert config.providers.models[0].backend_refs[0].base_url == address


def test_resources_without_a_configuration() -> None:
    text = "apiVersion: v\nkind: Pool\nspec: {}\n---\napiVersion: v\nkind: Route\nspec: {}\n"
    assert errors(text) == ["<string>:1: error: there is no configuration in Pool, Route"]


def test_values_of_a_chart_with_a_global_of_its_own() -> None:
    text = "global: {imageRegistry: x}\nconfig:" + BASE.replace("\n", "\n  ") + "\n"
    assert len(loads(text).config.providers.models) == 2


def test_what_nothing_reads_in_a_chart_may_be_unset() -> None:
    password = "postgres: {password: '${NO_SUCH_VARIABLE}'}"
    text = f"{BASE}global: {{services: {{router_replay: {{{password}}}}}}}\n".replace("\n", "\n  ")
    assert loads(f"config:{text}\n").config.providers.models
    read = text.replace("default_model: small", "default_model: '${NO_SUCH_VARIABLE}'")
    assert errors(f"config:{read}\n")[0].startswith("<string>:3: error: providers.defaults.default_model: environment")


def test_a_configuration_in_the_text_of_a_release() -> None:
    text = textwrap.indent(BASE, " " * 10)
    release = f"apiVersion: v\nkind: App\nspec:\n  source:\n    helm:\n      values: |\n        config:\n{text}"
    assert len(loads(release).config.providers.models) == 2


def test_a_file_in_a_config_map_that_is_not_yaml() -> None:
    text = "apiVersion: v\nkind: Map\ndata:\n  config.yaml: |\n    version: v\n    providers: [a}\n    routing: x\n"
    (problem,) = errors(text)
    assert problem.startswith("<string>:6: error: not valid YAML")


def test_modules_and_limits_of_the_flat_form() -> None:
    config = loads("""
vllm_endpoints: [{name: e, address: 127.0.0.1, port: 8000}]
model_config: {small: {preferred_endpoints: [e]}}
default_model: small
prompt_guard: {enabled: true, threshold: 0.8, use_cpu: true}
hallucination_mitigation: {enabled: true, fact_check_model: {threshold: 0.7}, nli_model: {threshold: 0.9}}
ratelimit: {providers: [{type: local-limiter, rules: [{name: all, requests_per_unit: 5, unit: minute}]}]}
jailbreak: [{name: attack}]
fact_check_rules: [{name: needs_fact_check}]
decisions: [{name: d, rules: {type: jailbreak, name: attack}, modelRefs: [{model: small}]}]
""").config
    signals = config.routing.signals
    thresholds = [
        signal.model_dump()["threshold"] for kind in ("jailbreak", "fact_check") for signal in signals.of(kind)
    ]
    assert thresholds == [0.8, 0.7]
    assert [rule.requests_per_unit for each in config.global_.services.ratelimit.providers for rule in each.rules] == [
        5
    ]


def test_a_file_that_waits_for_its_setup() -> None:
    text = "providers: {models: []}\nrouting: {decisions: []}\n"
    assert "at least one model" in errors(text)[0]
    assert any("there is no model" in str(warning) for warning in loads(f"setup: {{mode: true}}\n{text}").warnings)

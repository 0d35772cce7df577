"""Files of vLLM Semantic Router: forms that mean something here, and forms that are no reason to refuse a file."""

from __future__ import annotations

from typing import Any

import pytest

from triton_router.config import Config, ConfigError, loads
from triton_router.config.schema import leaves

BASE = """
providers:
  defaults: {default_model: small}
  models: [{name: small, backend_refs: [{endpoint: "127.0.0.1:1"}]}]
"""


def routing(text: str, tail: str = "") -> Config:
    return loads(f"{BASE}routing: {{{text}}}\n{tail}").config


def problems(text: str) -> list[str]:
    try:
        loads(text)
    except ConfigError as error:
        return [f"{problem.path}: {problem.message}" for problem in error.problems if problem.severity == "error"]
    return []


def warned(text: str) -> list[str]:
    return [f"{warning.path}: {warning.message}" for warning in loads(text).warnings]


def test_words_and_numbers_stay_as_they_are_written_where_a_text_is_meant() -> None:
    words = "[yes, no, off, 12:30, 2024-01-01, true, 007, 1.50, 1_000, 0x10]"
    config = routing(
        f"signals: {{keywords: [{{name: on, keywords: {words}}}], language: [{{name: no, threshold: 0.60}}]}}, "
        "decisions: [{name: off, rules: {type: language, name: no}, modelRefs: [{model: small, use_reasoning: yes}]}]"
    )
    keywords, language = config.routing.signals.of("keyword")[0], config.routing.signals.of("language")[0]
    assert keywords.name == "on"
    assert getattr(keywords, "keywords") == tuple(words.strip("[]").split(", "))  # noqa: B009
    assert (language.name, language.model_dump()["threshold"]) == ("no", 0.6)
    assert config.routing.decisions[0].modelRefs[0].use_reasoning is True
    hidden = loads("providers: {models: [{name: no, hidden: on, backend_refs: [{endpoint: 'h:1', weight: 010}]}]}")
    model = hidden.config.providers.models[0]
    assert (model.name, model.hidden, model.backend_refs[0].weight) == ("no", True, 8)


def test_a_switch_may_be_any_word_for_it() -> None:
    plugin = "decisions: [{name: a, plugins: [{type: content_safety, configuration: {enabled: off}}]}]"
    assert routing(plugin).routing.decisions[0].plugins == ()
    assert "content_safety" in problems(BASE + f"routing: {{{plugin.replace('off', 'on')}}}\n")[0]


def test_an_operator_in_either_case_and_both_names_of_what_an_unknown_signal_counts_as() -> None:
    leaf = "{type: keyword, name: k, on_error: match, on_unknown: no_match}"
    config = routing(
        "signals: {keywords: [{name: k, operator: or, keywords: [x]}]}, "
        f"decisions: [{{name: d, rules: {{operator: not, conditions: [{leaf}]}}}}]"
    )
    rules = config.routing.decisions[0].rules
    assert rules is not None and rules.operator == "NOT" and rules.conditions[0].on_unknown == "no_match"


def test_domains_that_only_rules_name() -> None:
    text = BASE + "routing: {decisions: [{name: d, rules: {type: domain, name: law}}]}\n"
    assert [signal.name for signal in loads(text).config.routing.signals.of("domain")] == ["law"]
    assert any("by its name alone" in each for each in warned(text))
    declared = text.replace("routing: {", "routing: {signals: {domains: [{name: math}]}, ")
    assert problems(declared) == ["routing.decisions[0].rules.name: no domain named `law` in routing.signals.domains"]


def test_a_composer_holds_wherever_a_rule_names_its_signal() -> None:
    signal = "{name: work, hard: {candidates: [x]}, easy: {candidates: [y]}, composer: {type: keyword, name: code}}"
    config = routing(
        f"signals: {{keywords: [{{name: code, keywords: [c]}}], complexity: [{signal}]}}, "
        "decisions: [{name: d, rules: {operator: NOT, conditions: [{type: complexity, name: 'work:hard'}]}}]"
    )
    assert [(rule.type, rule.name) for rule in leaves(config.routing.decisions[0])] == [
        ("complexity", "work:hard"),
        ("keyword", "code"),
    ]
    wrong = BASE + f"routing: {{signals: {{complexity: [{signal}]}}, decisions: [{{name: d, rules: "
    wrong += "{type: complexity, name: 'work:easy'}}]}\n"
    (problem,) = problems(wrong)
    assert problem.startswith("routing.signals.complexity[0].composer.name: no keyword named `code`")


def test_a_rule_may_name_one_label_of_a_classifier() -> None:
    rule = "{type: classifier, name: c, label: b, predicate: {gte: 0.7}, on_error: match}"
    config = routing(
        "signals: {classifiers: [{name: c, head: h, labels: [a, b]}]}, " + f"decisions: [{{name: d, rules: {rule}}}]"
    )
    (leaf,) = leaves(config.routing.decisions[0])
    assert (leaf.name, leaf.on_unknown) == ("c:b", "match")
    (problem,) = problems(
        BASE
        + "routing: {signals: {classifiers: [{name: c, head: h, labels: [a]}]}, "
        + f"decisions: [{{name: d, rules: {rule}}}]}}\n"
    )
    assert problem.startswith("routing.decisions[0].rules.label: no classifier named `c:b`")


RESPONSES = "signals: {jailbreak: [{name: in}, {name: out, direction: response, threshold: 0.4}]}, "


def test_a_signal_that_reads_responses_is_what_the_plugin_acts_on() -> None:
    plugin = "{type: response_jailbreak, configuration: {enabled: true, threshold: 0.9}}"
    decision = f"decisions: [{{name: d, rules: {{type: jailbreak, name: in}}, plugins: [{plugin}]}}]"
    config = routing(RESPONSES + decision)
    assert [signal.name for signal in config.routing.signals.of("jailbreak")] == ["in"]
    assert config.routing.decisions[0].plugins[0].configuration.threshold == 0.4
    # Without the plugin nothing would come of it, and no rule can wait for a response.
    assert "--allow-inactive direction" in problems(f"{BASE}routing: {{{RESPONSES}decisions: []}}\n")[0]
    named = f"{BASE}routing: {{{RESPONSES}{decision.replace('name: in', 'name: out')}}}\n"
    assert "--allow-inactive direction" in problems(named)[0]


def test_modules_have_the_settings_of_signals_without_their_own() -> None:
    tail = """global:
  model_catalog:
    embeddings: {semantic: {embedding_config: {prototype_scoring: {best_weight: 0.5}}}}
    modules:
      prompt_guard: {threshold: 0.7, on_error: block}
      classifier: {pii: {on_error: allow}}
      modality_detector: {confidence_threshold: 0.8}
      complexity: {prototype_scoring: {enabled: false}}
"""
    rules = "{operator: OR, conditions: [{type: jailbreak, name: a}, {type: jailbreak, name: b, on_unknown: no_match}, "
    config = routing(
        "signals: {jailbreak: [{name: a, threshold: 0}, {name: b, threshold: 0.2}], modality: [{name: AR}], "
        "pii: [{name: p}], "
        "embeddings: [{name: e, candidates: [x]}, {name: f, candidates: [x], prototype_scoring: {}}], "
        "complexity: [{name: w, hard: {candidates: [x]}, easy: {candidates: [y]}}]}, "
        f"decisions: [{{name: d, rules: {rules}{{type: pii, name: p}}]}}}}]",
        tail,
    )
    kinds = ("jailbreak", "modality", "embedding", "complexity")
    signals = {each.name: each.model_dump() for kind in kinds for each in config.routing.signals.of(kind)}
    assert [signals[name]["threshold"] for name in ("a", "b", "AR")] == [0.7, 0.2, 0.8]
    weights = [signals[name]["prototype_scoring"]["best_weight"] for name in ("e", "f")]
    assert (weights, signals["w"]["prototype_scoring"]["enabled"]) == ([0.5, 0.75], False)
    # Where its author wants it, a guard that cannot say anything counts as a match.
    assert [rule.on_unknown for rule in leaves(config.routing.decisions[0])] == ["match", "no_match", None]


@pytest.mark.parametrize(
    ("signal", "rule"),
    [
        ("embeddings: [{name: s, candidates: [a photo], query_modality: image}]", "{type: embedding, name: s}"),
        ("embeddings: [{name: s, image_candidates: [a.png]}]", "{type: embedding, name: s}"),
        ("complexity: [{name: s, hard_below: 0.2, easy_above: 0.8}]", "{type: complexity, name: 's:hard'}"),
        ("complexity: [{name: s, hard: {candidates: []}, easy: {}}]", "{type: complexity, name: 's:hard'}"),
    ],
)
def test_a_signal_that_reads_what_nobody_has_is_never_known(signal: str, rule: str) -> None:
    text = f"{BASE}routing: {{signals: {{{signal}}}, decisions: [{{name: d, rules: {rule}}}]}}\n"
    assert any("never matches" in each for each in warned(text))


def test_models_that_only_cards_have() -> None:
    text = "providers: {defaults: {model: a}}\nrouting: {modelCards: [{name: a}, {name: b}, {name: c}], decisions: "
    text += "[{name: d, modelRefs: [{model: b}]}]}\n"
    assert [model.name for model in loads(text).config.providers.models] == ["a", "b"]
    assert any("no decision asks for it" in each for each in warned(text))


def test_no_model_at_all_is_a_mistake_unless_requests_are_decided() -> None:
    assert any("no model" in each for each in warned("routing: {decisions: [{name: d}]}\n"))
    assert any("no model" in each for each in warned("global: {router: {config_source: kubernetes}}\n"))
    assert "at least one model" in problems("routing: {strategy: priority}\n")[0]


def test_addresses_with_another_key_or_path_get_no_requests() -> None:
    refs = "{endpoint: 'h:1'}, {base_url: 'https://x.example/v1', api_key: k, api_key_env: K}, {endpoint: 'i:1'}"
    text = f"providers: {{models: [{{name: m, backend_refs: [{refs}]}}]}}\n"
    assert [ref.endpoint for ref in loads(text).config.providers.models[0].backend_refs] == ["h:1", "i:1"]
    assert any("`base_url` differs" in each for each in warned(text))
    alone = "providers: {models: [{name: m, backend_refs: [{endpoint: 'h:1', api_key: k, api_key_env: K}]}]}\n"
    (ref,) = loads(alone).config.providers.models[0].backend_refs
    assert ref.api_key is not None and ref.api_key_env is None


def test_zeros_of_generated_files() -> None:
    plugins = (
        "[{type: request_params, configuration: {max_n: 0}}, {type: semantic-cache, configuration: {ttl_seconds: 0}}]"
    )
    tail = "global: {stores: {response_cache: {ttl_seconds: 0, max_entries: 0}}, "
    tail += "services: {router_replay: {ttl_seconds: 0}}}\n"
    config = routing(f"decisions: [{{name: d, plugins: {plugins}}}]", tail)
    params, cache = (plugin.configuration for plugin in config.routing.decisions[0].plugins)
    assert params.max_n is None
    # Kept for no time, nothing is kept; without a time, it is kept.
    assert cache.enabled is False
    assert config.global_.stores.semantic_cache.ttl_seconds > 86_400
    assert config.global_.stores.semantic_cache.max_entries == 1000
    assert config.global_.services.router_replay.ttl_seconds > 86_400
    # A weight of nothing is no weight of one.
    assert "weight" in problems("providers: {models: [{name: m, backend_refs: [{endpoint: 'h:1', weight: 0}]}]}\n")[0]


def test_one_strategy_for_tables_that_do_not_say_theirs() -> None:
    text = BASE + "routing: {strategy: priority}\nrecipes: [{name: r, routing: {decisions: [{name: d}]}}]\n"
    config = loads(text + "global: {router: {strategy: confidence}}\n").config
    assert (config.routing.strategy, config.recipes[0].routing.strategy) == ("priority", "confidence")


@pytest.mark.parametrize(
    "addition",
    [
        "routing: {decisions: [{name: d, plugins: [{type: system_prompt, configuration: {enabled: false}}]}]}",
        "routing: {decisions: [{name: d, algorithm: {type: ''}}]}",
        "routing: {signals: {pii: [{name: p, pii_types_allowed: [NICKNAME]}]}}",
        "routing: {signals: {keywords: [{name: k, keywords: [urgent], method: fuzzy, fuzzy_threshold: 82}]}}",
        "global: {services: {observability: {tracing: {exporter: {endpoint: 'http://jaeger:4317'}}}}}",
        "global: {model_catalog: {modules: {classifier: {domain: {fallback_category: other}}}}}",
        "global: {stores: {response_cache: {max_memory_entries: 9, use_hnsw: true, milvus: {performance: {}}}}}",
        "x-shared: &shared {model: small}\nrouting: {decisions: [{name: d, modelRefs: [{<<: *shared}]}]}",
        "setup: {mode: true}",
    ],
)
def test_what_is_no_reason_to_refuse_a_file(addition: str) -> None:
    assert problems(BASE + addition + "\n") == []


def test_a_cache_for_teams_is_one_for_each_user() -> None:
    plugin = "decisions: [{name: d, plugins: [{type: response_cache, configuration: {enabled: true, scope: team}}]}]"
    assert routing(plugin).routing.decisions[0].plugins[0].configuration.scope == "user"


def test_rules_of_the_flat_form_that_decisions_name() -> None:
    text = """
vllm_endpoints: [{name: e, address: 10.0.0.1, port: 8000}]
model_config: {m: {preferred_endpoints: [e]}}
default_model: m
categories: [{name: math, model_scores: [{model: m, score: 1}]}]
keyword_rules: [{name: urgent, operator: OR, keywords: [now]}, {name: math, keywords: [sum]}]
preference_rules: [{name: short, description: brief answers}]
decisions: [{name: d, rules: {type: keyword, name: urgent}, modelRefs: [{model: m}]}]
"""
    config = loads(text).config
    assert [signal.name for signal in config.routing.signals.of("keyword")] == ["urgent", "math"]
    assert [signal.name for signal in config.routing.signals.of("preference")] == ["short"]
    unknown: Any = text.replace("name: urgent, operator", "name: urgnt, operator")
    assert any("no keyword named `urgent`" in each for each in problems(unknown))


@pytest.mark.parametrize(
    "text",
    [
        "routing: {signals: {domains: [x, 5]}, decisions: [{name: d, rules: {type: domain, name: law}}]}",
        "routing: {signals: {complexity: [{name: [], composer: {type: keyword, name: k}}]}, "
        "decisions: [{name: d, rules: {type: complexity, name: []}}]}",
        "routing: {signals: {jailbreak: [{name: {}, direction: response, threshold: []}]}}",
        "routing: {modelCards: [{name: []}, {name: z}], decisions: [{name: d, modelRefs: [{model: {}}]}]}",
        "routing: {signals: [], decisions: [{name: d, rules: {type: domain, name: x}}]}",
    ],
)
def test_whatever_stands_in_a_file_is_reported(text: str) -> None:
    assert problems(BASE + text + "\n")


def test_a_threshold_of_nothing_is_not_inherited() -> None:
    tail = "global: {model_catalog: {modules: {prompt_guard: {threshold: 0}}}}\n"
    assert routing("signals: {jailbreak: [{name: j}]}", tail).routing.signals.of("jailbreak")[0].threshold == 0.5


@pytest.mark.parametrize(("module", "needed"), [("", 0.6), ("threshold: 0.75", 0.75), ("threshold: 0", 0.6)])
def test_facts_are_needed_or_not(module: str, needed: float) -> None:
    tail = f"global: {{model_catalog: {{modules: {{hallucination_mitigation: {{fact_check: {{{module}}}}}}}}}}}\n"
    signals = "[{name: needs_fact_check}, {name: no_fact_check_needed}, {name: no_facts, threshold: 0.7}]"
    declared = routing(f"signals: {{fact_check: {signals}}}", tail).routing.signals.of("fact_check")
    assert [signal.threshold for signal in declared] == [needed, pytest.approx(1 - needed), 0.7]


@pytest.mark.parametrize("settings", ["similarity_threshold: 0", "semantic: {similarity_threshold: 0}"])
def test_a_cache_that_everything_would_hit(settings: str) -> None:
    plugins = f"[{{type: response_cache, configuration: {{{settings}}}}}, {{type: response_jailbreak, configuration: "
    tail = "global: {stores: {response_cache: {similarity_threshold: 0}}, model_catalog: {modules: {classifier: "
    config = routing(
        f"decisions: [{{name: d, plugins: {plugins}{{threshold: 0}}}}]}}]",
        f"{tail}{{domain: {{threshold: 0}}}}}}}}}}\n",
    )
    cache, screen = (plugin.configuration for plugin in config.routing.decisions[0].plugins)
    assert (cache.similarity_threshold, config.global_.stores.semantic_cache.similarity_threshold) == (None, 0.9)
    assert screen.threshold == 0.7
    assert config.global_.model_catalog.modules.classifier.domain.threshold == 0.25


def test_what_generated_files_have_for_nothing() -> None:
    plugin = "{type: response_cache, configuration: {enabled: true, semantic: null}}"
    limits = "ratelimit: {providers: [{type: local-limiter, rules: [{requests_per_unit: 5}, {requests_per_unit: 9}]}]}"
    config = routing(
        "signals: null, projections: {scores: []}, decisions: [{name: d, rules: {type: '', operator: '', conditions: "
        f"[]}}, algorithm: {{type: null}}, plugins: [{plugin}]}}]",
        f"global: {{services: {{{limits}}}}}\n",
    )
    (decision,) = config.routing.decisions
    assert (decision.rules, decision.algorithm) == (None, None)
    (provider,) = config.global_.services.ratelimit.providers
    assert [rule.name for rule in provider.rules] == ["rule-1", "rule-2"]

"""The flat form: read as it is, reported where it was written, and migrated without a loss."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from triton_router.cli import main
from triton_router.config import Config, ConfigError, Problem, loads, migrate
from triton_router.config.document import parse
from triton_router.config.report import dotted as _dotted
from triton_router.config.wrapped import is_flat

FLAT = """\
vllm_endpoints:
  - {name: one, address: 10.0.0.1, port: 8000, weight: 3}
  - {name: two, address: "fd00::2", port: 8001}
model_config:
  small:
    reasoning_family: qwen3
    preferred_endpoints: [one]
    loras: [{name: tax-lora, description: Taxes}, {name: pay-lora}]
  large: {description: The large one}
reasoning_families: {qwen3: {type: chat_template_kwargs, parameter: enable_thinking}}
default_model: large
default_reasoning_effort: high
auto_model_name: anything
classifier:
  category_model: {threshold: 0.4, fallback_category: rest, use_cpu: true}
keyword_rules:
  - {category: tax, operator: OR, keywords: [vat, income tax]}
  - {category: tax, operator: AND, keywords: [return, deadline]}
embedding_rules:
  - {category: pay, threshold: 0.6, candidates: [When do I get paid?], aggregation_method: mean}
categories:
  - name: tax
    description: Taxes of all kinds
    system_prompt: You know taxes.
    semantic_cache_enabled: true
    semantic_cache_similarity_threshold: 0.9
    model_scores:
      - {model: small, lora_name: tax-lora, score: 0.9, use_reasoning: true, reasoning_effort: low}
      - {model: large, score: 0.2}
  - {name: pay, mmlu_categories: [economics], model_scores: [{model: small, lora_name: pay-lora, score: 1}]}
  - {name: rest}
"""


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        loads(textwrap.dedent(text), file="flat.yaml")
    return caught.value.problems


@pytest.fixture(scope="module")
def config() -> Config:
    return loads(FLAT).config


def test_endpoints_models_and_defaults(config: Config) -> None:
    small, large = config.providers.models
    assert [ref.endpoint for ref in small.backend_refs] == ["10.0.0.1:8000"]
    assert [(ref.name, ref.endpoint, ref.weight) for ref in large.backend_refs] == [
        ("one", "10.0.0.1:8000", 3), ("two", "[fd00::2]:8001", 1),
    ]  # fmt: skip
    defaults = config.providers.defaults
    assert (defaults.default_model, defaults.default_reasoning_effort) == ("large", "high")
    assert small.reasoning_family == "qwen3" and defaults.reasoning_families["qwen3"].parameter == "enable_thinking"
    assert config.global_.router.auto_model_name == "anything"
    judging = config.global_.model_catalog.modules.classifier.domain
    assert (judging.threshold, judging.fallback_category) == (0.4, "rest")


def test_an_adapter_keeps_its_name_its_base_and_its_score(config: Config) -> None:
    tax = next(decision for decision in config.routing.decisions if decision.name == "tax")
    first, second = tax.modelRefs
    assert (first.model, first.lora_name, first.score) == ("small", "tax-lora", 0.9)
    assert (first.use_reasoning, first.reasoning_effort) == (True, "low")
    assert (second.model, second.lora_name, second.score) == ("large", None, 0.2)
    (card, other) = config.routing.modelCards
    assert [(lora.name, lora.description) for lora in card.loras] == [("tax-lora", "Taxes"), ("pay-lora", None)]
    assert (other.name, other.description) == ("large", "The large one")


def test_rules_yield_categories_and_outrank_the_classifier(config: Config) -> None:
    table = [(decision.name, decision.priority) for decision in config.routing.decisions]
    assert table == [("tax_keyword", 40), ("tax", 10), ("pay_embedding", 30), ("pay", 10), ("rest", 10)]
    keyword, domain = config.routing.decisions[:2]
    assert keyword.modelRefs == domain.modelRefs and keyword.plugins == domain.plugins
    assert keyword.rules is not None and [rule.name for rule in keyword.rules.conditions] == ["tax", "tax_2"]
    assert [(signal.name, signal.operator) for signal in config.routing.signals.keywords] == [
        ("tax", "OR"), ("tax_2", "AND"),
    ]  # fmt: skip
    (embedding,) = config.routing.signals.embeddings
    assert (embedding.threshold, embedding.aggregation_method) == (0.6, "mean")
    assert config.routing.signals.domains[1].mmlu_categories == ("economics",)
    assert [plugin.type for plugin in domain.plugins] == ["system_prompt", "semantic-cache"]


def test_an_mcp_server_yields_the_categories_too() -> None:
    server = "  mcp_category_model: {enabled: true, transport_type: streamable-http, url: http://h/mcp, threshold: 0.7}"
    config = loads(FLAT.replace("keyword_rules:", f"{server}\nkeyword_rules:")).config
    assert [signal.name for signal in config.routing.signals.mcp] == ["tax", "pay", "rest"]
    assert ("pay_mcp", 20) in [(decision.name, decision.priority) for decision in config.routing.decisions]
    mcp = config.global_.model_catalog.modules.classifier.mcp
    assert mcp is not None and (mcp.transport_type, mcp.threshold) == ("http", 0.7)
    off = loads(FLAT.replace("keyword_rules:", f"{server.replace('true', 'false')}\nkeyword_rules:")).config
    assert off.routing.signals.mcp == () and off.global_.model_catalog.modules.classifier.mcp is None


def test_models_of_the_oldest_form_are_only_named() -> None:
    text = """
    vllm_endpoints: [{name: a, address: h, port: 1, models: [m1]}, {name: b, address: h, port: 2, models: [m2]}]
    default_model: m2
    categories: [{name: math, use_reasoning: true, model_scores: [{model: m1, score: 1}]}]
    """
    config = loads(textwrap.dedent(text)).config
    assert {model.name: model.backend_refs[0].endpoint for model in config.providers.models} == {
        "m1": "h:1",
        "m2": "h:2",
    }
    assert config.routing.decisions[0].modelRefs[0].use_reasoning is True


def test_ten_mistakes_are_all_reported_where_they_were_written() -> None:
    report = problems(
        """\
        vllm_endpoints:
          - {name: primary, address: h, port: 80x, wieght: 1}
        model_config:
          base:
            prefered_endpoints: [primary]
            loras: [{name: law-lora, descripton: x}]
          spare:
            preferred_endpoints: [primry]
        default_model: bse
        categries: []
        categories:
          - name: law
            model_scores:
              - {model: base, lora_name: laws-lora, score: high}
              - {model: bas, score: 1}
        keyword_rules:
          - {category: lawyers, keywords: [sue]}
          - {category: law, operator: XOR, keywords: [court]}
        """
    )
    errors = {(problem.line, problem.path, problem.suggestion) for problem in report if problem.severity == "error"}
    assert errors >= {
        (2, "vllm_endpoints[0].port", None),
        (2, "vllm_endpoints[0].wieght", "weight"),
        (5, "model_config.base.prefered_endpoints", "preferred_endpoints"),
        (6, "model_config.base.loras[0].descripton", "description"),
        (8, "model_config.spare.preferred_endpoints[0]", "primary"),
        (9, "default_model", "base"),
        (10, "categries", "categories"),
        (14, "categories[0].model_scores[0].lora_name", "law-lora"),
        (14, "categories[0].model_scores[0].score", None),
        (15, "categories[0].model_scores[1].model", "base"),
        (17, "keyword_rules[0].category", "law"),
        (18, "keyword_rules[1].operator", "OR"),
    }
    assert not [problem.path for problem in report if problem.path.startswith(("providers", "routing", "global"))]


def test_what_does_nothing_here_is_named() -> None:
    text = FLAT + "prompt_guard: {enabled: true}\nsemantic_cache: {embedding_model: x}\nbert_model: {model_id: x}\n"
    warned = {warning.path for warning in loads(text).warnings}
    assert warned >= {
        "prompt_guard",
        "bert_model",
        "classifier.category_model.use_cpu",
    }


def test_migrating_loses_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    (tmp_path / "flat.yaml").write_text(FLAT)
    assert main(["migrate", "--config", str(tmp_path / "flat.yaml")]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("# Made by `triton-router migrate` from flat.yaml.\nversion: v0.3\n")
    assert loads(printed.out).config == loads(FLAT).config
    assert "`use_cpu` is known but not active" in printed.err
    (tmp_path / "canonical.yaml").write_text(printed.out)
    assert main(["migrate", "--config", str(tmp_path / "canonical.yaml")]) == 1


def test_migrating_leaves_variables_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU", "10.0.0.9")
    text = FLAT.replace("10.0.0.1", "'${GPU}'")
    assert loads(text).config.providers.models[0].backend_refs[0].endpoint == "10.0.0.9:8000"
    assert 'endpoint: "${GPU}:8000"' in migrate(text)


def test_migrating_keeps_quotes_around_variables_and_reads_long_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBER", "123")
    text = FLAT.replace("name: rest", "name: '${NUMBER}', system_prompt: \"One.\\nTwo.\\n\"").replace(
        "fallback_category: rest", "fallback_category: '${NUMBER}'"
    )
    text = text.replace("threshold: 0.4", "threshold: ${LEAST:-0.4}").replace("port: 8000", "port: '${PORT:-8000}'")
    text = text.replace("address: 10.0.0.1", "address: '${HOST:-gpu.local}'").replace("{threshold", "\n    threshold")
    text = text.replace(", fallback_category", "\n    fallback_category").replace(", use_cpu: true}", "")
    migrated = migrate(text)
    assert "threshold: ${LEAST:-0.4}\n" in migrated and "|\n" in migrated
    config = loads(text).config
    assert config.providers.models[0].backend_refs[0].endpoint == "gpu.local:8000"
    assert loads(migrated).config == config


def test_settings_of_the_cache_and_the_services_are_carried() -> None:
    text = BASE + textwrap.dedent(
        """\
        semantic_cache: {similarity_threshold: 0.8, ttl_seconds: 60, embedding_model: x}
        api: {batch_classification: {max_batch_size: 3}, port: 9081}
        observability: {metrics: {port: 9191}, tracing: {enabled: true}}
        """
    )
    loaded = loads(text)
    cache, services = loaded.config.global_.stores.semantic_cache, loaded.config.global_.services
    assert (cache.similarity_threshold, cache.ttl_seconds, cache.embedding_model) == (0.8, 60, "x")
    assert (services.api.port, services.observability.metrics.port) == (9081, 9191)
    assert services.observability.tracing.enabled
    assert [warning.path for warning in loaded.warnings] == [
        "api.batch_classification",
    ]  # fmt: skip


def test_what_is_canonical_already_is_not_migrated() -> None:
    with pytest.raises(ConfigError, match="already in the canonical form"):
        migrate("providers: {models: [{name: m}]}")


BASE = """\
vllm_endpoints: [{name: one, address: h, port: 8000}]
model_config: {base: {reasoning_effort: low, loras: [{name: law-lora}]}}
default_model: base
"""


def test_reasoning_of_a_category_or_a_model_is_kept() -> None:
    def refs(category: str, default: str = "base") -> list[tuple[str, str | None, bool, str | None]]:
        text = BASE.replace("default_model: base", f"default_model: {default}") + f"categories: [{category}]"
        assert loads(migrate(text)).config == loads(text).config
        (decision,) = loads(text).config.routing.decisions
        return [(ref.model, ref.lora_name, ref.use_reasoning, ref.reasoning_effort) for ref in decision.modelRefs]

    assert refs("{name: a}") == []
    assert refs("{name: a, use_reasoning: true, reasoning_effort: high}") == [("base", None, True, "high")]
    assert refs("{name: a, use_reasoning: true}", "law-lora") == [("base", "law-lora", True, None)]
    scores = "model_scores: [{model: base, score: 1}, {model: base, lora_name: law-lora, reasoning_effort: minimal}]"
    assert refs(f"{{name: a, {scores}}}") == [("base", None, False, "low"), ("base", "law-lora", False, "minimal")]
    assert refs(f"{{name: a, reasoning_effort: medium, use_reasoning: true, {scores}}}") == [
        ("base", None, True, "medium"), ("base", "law-lora", True, "minimal"),
    ]  # fmt: skip


def test_the_adapters_name_survives_migration() -> None:
    text = BASE + "categories: [{name: law, model_scores: [{model: base, lora_name: law-lora, score: 1}]}]"
    assert "lora_name: law-lora" in migrate(text)
    (ref,) = loads(migrate(text)).config.routing.decisions[0].modelRefs
    assert (ref.model, ref.lora_name) == ("base", "law-lora")


def test_models_beside_model_config_are_models_unless_they_are_misspelt() -> None:
    text = BASE + "categories: [{name: a, model_scores: [{model: other-70b, score: 1}]}]"
    loaded = loads(text)
    assert [model.name for model in loaded.config.providers.models] == ["base", "other-70b"]
    assert [warning.path for warning in loaded.warnings] == ["categories[0].model_scores[0].model"]
    served = loads(text.replace("port: 8000", "port: 8000, models: [other-70b]"))
    assert served.config.providers.models[1].name == "other-70b" and not served.warnings
    (typo,) = problems(text.replace("other-70b", "bsae"))
    assert (typo.path, typo.suggestion) == ("categories[0].model_scores[0].model", "base")
    sizes = text.replace("base", "chat-7b").replace("other-70b", "chat-70b")
    assert [model.name for model in loads(sizes).config.providers.models] == ["chat-7b", "chat-70b"]


def test_own_signals_and_decisions_stay_beside_those_of_the_categories() -> None:
    text = BASE + textwrap.dedent(
        """\
        signals: {keywords: [{name: law, keywords: [mine]}], domains: [{name: own}], language: [{name: fr}]}
        language_rules: [{name: de}]
        decisions:
          - name: first
            rules: {operator: OR, conditions: [{type: domain, name: own}, {type: keyword, name: law},
              {type: language, name: de}, {type: language, name: fr}]}
        keyword_rules: [{category: law, keywords: [court]}, {category: law, name: eu, keywords: [directive]}]
        categories: [{name: law}]
        """
    )
    config = loads(text).config
    signals = config.routing.signals
    assert [(signal.name, signal.keywords) for signal in signals.keywords] == [
        ("law", ("mine",)), ("law_2", ("court",)), ("eu", ("directive",)),
    ]  # fmt: skip
    assert [signal.name for signal in signals.domains] == ["own", "law"]
    assert [signal.name for signal in signals.language] == ["fr", "de"]
    assert [decision.name for decision in config.routing.decisions] == ["first", "law_keyword", "law"]
    assert loads(migrate(text)).config == config


@pytest.mark.parametrize(
    ("address", "endpoint"),
    [("10.0.0.1", "10.0.0.1:80"), ("fd00::2", "[fd00::2]:80"), ("'[fd00::2]'", "[fd00::2]:80"), ("a.b", "a.b:80")],
)
def test_addresses(address: str, endpoint: str) -> None:
    text = f"vllm_endpoints:\n  - {{address: {address}, port: 80, health_check_path: /up}}\ndefault_model: m"
    (model,) = loads(text).config.providers.models
    assert [ref.endpoint for ref in model.backend_refs] == [endpoint] and model.reliability.health_check_path == "/up"


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("{address: '10.0.0.1:80', port: 80}", "vllm_endpoints[0].address"),
        ("{address: http://h, port: 80}", "vllm_endpoints[0].address"),
        ("{address: h, port: 65536}", "vllm_endpoints[0].port"),
        ("{address: h}", "vllm_endpoints[0].port"),
        ("{port: 80}", "vllm_endpoints[0].address"),
        ("{address: h, port: 80, protocol: gopher}", "vllm_endpoints[0].protocol"),
        ("{name: a, address: h, port: 1}, {name: a, address: h, port: 2}", "vllm_endpoints[1].name"),
        ("{address: h, port: 1, health_check_path: /a}, {address: h, port: 2, health_check_path: /b}",
         "vllm_endpoints[1].health_check_path"),
    ],
)  # fmt: skip
def test_endpoints_that_cannot_be(written: str, path: str) -> None:
    (problem,) = problems(f"vllm_endpoints: [{written}]\ndefault_model: m")
    assert (problem.path, problem.severity) == (path, "error")


def test_what_one_key_became_several_for_is_still_reported_under_that_key() -> None:
    report = problems(
        BASE
        + """\
categories:
  - name: a
    system_prompt: x
    system_prompt_mode: replac
    semantic_cache_enabled: true
    semantic_cache_similarity_threshold: 7
  - {name: a}
keyword_rules: [{category: b, operator: XOR, keywords: [x]}]
embedding_rules: [{category: a, keywords: [x], candidates: [x]}]
"""
    )
    assert [(problem.line, problem.path) for problem in report if problem.severity == "error"] == [
        (7, "categories[0].system_prompt_mode"),
        (9, "categories[0].semantic_cache_similarity_threshold"),
        (10, "categories[1].name"),
        (11, "keyword_rules[0].category"),
        (11, "keyword_rules[0].operator"),
        (12, "embedding_rules[0]"),
    ]


names = st.text("abcdefgh-", min_size=1, max_size=8)


@st.composite
def flat_files(draw: st.DrawFn) -> dict[str, Any]:
    models = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    loras = {model: [f"{model}.lora{n}" for n in range(draw(st.integers(0, 2)))] for model in models}
    categories = draw(st.lists(names, max_size=4, unique=True))

    def score() -> dict[str, Any]:
        model = draw(st.sampled_from(models))
        chosen = {"model": model, "score": draw(st.sampled_from([0, 0.5, 1]))}
        if loras[model] and draw(st.booleans()):
            chosen["lora_name"] = draw(st.sampled_from(loras[model]))
        return chosen

    def category(name: str) -> dict[str, Any]:
        return {"name": name, "model_scores": [score() for _ in range(draw(st.integers(0, 3)))]} | draw(details)

    references = st.sampled_from(categories) if categories else st.nothing()
    rules = st.lists(references, max_size=3) if categories else st.just([])
    return {
        "vllm_endpoints": [{"name": "e", "address": "h", "port": draw(st.integers(1, 65535))}],
        "model_config": {model: {"loras": [{"name": lora} for lora in loras[model]]} for model in models},
        "default_model": models[0],
        "categories": [category(name) for name in categories],
        "keyword_rules": [
            {"category": name, "operator": draw(st.sampled_from(["OR", "AND", "NOR"])), "keywords": ["a", "b"]}
            for name in draw(rules)
        ],
        "embedding_rules": [{"name": name, "threshold": 0.5, "candidates": ["a"]} for name in draw(rules)],
        "classifier": {"mcp_category_model": {"enabled": draw(st.booleans()), "url": "http://h/mcp"}},
    }


# Texts with all that YAML and variables make something of.
texts = st.text("a \n:#'\"{}[]|>-0é$", max_size=12).map(lambda text: text.replace("$", "$$"))
details = st.fixed_dictionaries(
    {},
    optional={
        "description": texts,
        "system_prompt": texts,
        "system_prompt_mode": st.sampled_from(["replace", "prepend", "append", "insert"]),
        "system_prompt_enabled": st.booleans(),
        "semantic_cache_enabled": st.booleans(),
        "semantic_cache_similarity_threshold": st.sampled_from([0, 0.85, 1]),
        "use_reasoning": st.booleans(),
        "reasoning_effort": st.sampled_from(["minimal", "low", "medium", "high"]),
        "mmlu_categories": st.just(["math", "physics"]),
    },
)


@settings(max_examples=60)
@given(flat_files())
def test_any_flat_file_means_the_same_after_migration(document: dict[str, Any]) -> None:
    text = yaml.safe_dump(document, allow_unicode=True)
    assert is_flat(document)
    config = loads(text).config
    assert loads(migrate(text)).config == config
    decisions = {decision.name: decision for decision in config.routing.decisions if decision.priority == 10}
    assert list(decisions) == [category["name"] for category in document["categories"]]
    for category in document["categories"]:
        decision = decisions[category["name"]]
        reasoning = {key: category[key] for key in ("use_reasoning", "reasoning_effort") if key in category}
        scores = category["model_scores"] or ([{"model": document["default_model"]}] if reasoning else [])
        assert [ref.model_dump(exclude_unset=True) for ref in decision.modelRefs] == [reasoning | ref for ref in scores]
        prompts = [plugin for plugin in decision.plugins if plugin.type == "system_prompt"]
        said_prompt = category.get("system_prompt", "").replace("$$", "$")
        assert [plugin.configuration.system_prompt for plugin in prompts] == ([said_prompt] if said_prompt else [])


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    steps = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for step, below in steps:
        yield (*path, step)
        yield from places(below, (*path, step))


def at(data: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        data = data[step]
    return data


def test_rules_that_heads_judge_are_signals_of_their_kind() -> None:
    text = BASE + textwrap.dedent(
        """\
        fact_check_rules: [{name: needs_fact_check}]
        user_feedback_rules: [{name: wrong_answer}]
        modality_rules: [{name: DIFFUSION}]
        jailbreak: [{name: attack, threshold: 0.7}]
        pii: [{name: personal, pii_types_allowed: [EMAIL_ADDRESS]}]
        categories: [{name: law}]
        """
    )
    signals = loads(text).config.routing.signals
    names = {kind: [each.name for each in signals.of(kind)] for kind in ("fact_check", "user_feedback", "modality")}
    assert names == {"fact_check": ["needs_fact_check"], "user_feedback": ["wrong_answer"], "modality": ["DIFFUSION"]}
    assert signals.of("jailbreak")[0].threshold == 0.7
    assert signals.of("pii")[0].pii_types_allowed == ("EMAIL_ADDRESS",)


JUNK = [None, 5, -1, 2.5, True, "", "zz", "x" * 300, [], [5], [[1]], [None], {}, {"a": 1}, {"name": "q"}]
WHOLE = (
    FLAT
    + """\
signals: {keywords: [{name: mine, keywords: [q]}], language: [{name: fr}]}
language_rules: [{name: de}]
decisions: [{name: own, rules: {type: keyword, name: mine}, modelRefs: [{model: small}]}]
"""
)


@settings(max_examples=150)
@given(st.data())
def test_whatever_stands_in_a_flat_file_its_problems_are_where_it_stands(data: st.DataObject) -> None:
    document = parse(WHOLE).data
    path = data.draw(st.sampled_from(list(places(document))))
    at(document, path[:-1])[path[-1]] = data.draw(st.sampled_from(JUNK))
    text = yaml.safe_dump(document, sort_keys=False)
    lines = {_dotted(place): line for place, line in parse(text).lines.items()}
    try:
        loaded = loads(text)
        report = loaded.warnings
        assert loads(migrate(text)).config == loaded.config
    except ConfigError as error:
        report = error.problems
    for problem in report:
        # A key that is missing is reported at the line of what misses it.
        written = problem.path if problem.path in lines else re.sub(r"\.?[^.\[\]]+\]?$", "", problem.path).rstrip("[")
        assert problem.line == lines[written], str(problem)


def test_migrating_offers_whole_words_and_lists_the_rules_that_change(
    capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    (tmp_path / "flat.yaml").write_text(FLAT)
    assert main(["migrate", "--config", str(tmp_path / "flat.yaml")]) == 0
    as_written = capsys.readouterr()
    assert main(["migrate", "--config", str(tmp_path / "flat.yaml"), "--whole-words"]) == 0
    whole = capsys.readouterr()
    before, after = loads(as_written.out).config.routing, loads(whole.out).config.routing
    assert {signal.match for signal in before.signals.keywords} == {"substring"}
    assert {signal.match for signal in after.signals.keywords} == {"word"}
    for signal in before.signals.keywords:
        assert f"keyword signal `{signal.name}` (decisions: " in as_written.err
    assert "also matches `vat` in private and observation" in as_written.err
    assert "see --whole-words" in as_written.err and "now match whole words only" in whole.err

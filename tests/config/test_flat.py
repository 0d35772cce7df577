"""The flat form: read as it is, reported where it was written, and migrated without a loss."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from router.cli import main
from router.config import Config, ConfigError, Problem, loads, migrate
from router.config.flat import is_flat

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
  category_model: {threshold: 0.4, fallback_category: rest, model_id: models/x}
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
    found = problems(
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
    told = {(problem.line, problem.path, problem.suggestion) for problem in found if problem.severity == "error"}
    assert told >= {
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
    assert not [problem.path for problem in found if problem.path.startswith(("providers", "routing", "global"))]


def test_what_does_nothing_here_is_named() -> None:
    text = FLAT + "prompt_guard: {enabled: true}\nsemantic_cache: {embedding_model: x}\nbert_model: {model_id: x}\n"
    warned = {warning.path for warning in loads(text).warnings}
    assert warned >= {
        "prompt_guard",
        "semantic_cache.embedding_model",
        "bert_model",
        "classifier.category_model.model_id",
    }


def test_migrating_loses_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    (tmp_path / "flat.yaml").write_text(FLAT)
    assert main(["migrate", "--config", str(tmp_path / "flat.yaml")]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("# Made by `triton-router migrate` from flat.yaml.\nversion: v0.3\n")
    assert loads(printed.out).config == loads(FLAT).config
    assert "`model_id` is known but not active" in printed.err
    (tmp_path / "canonical.yaml").write_text(printed.out)
    assert main(["migrate", "--config", str(tmp_path / "canonical.yaml")]) == 1


def test_migrating_leaves_variables_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPU", "10.0.0.9")
    text = FLAT.replace("10.0.0.1", "'${GPU}'")
    assert loads(text).config.providers.models[0].backend_refs[0].endpoint == "10.0.0.9:8000"
    assert 'endpoint: "${GPU}:8000"' in migrate(text)


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

    return {
        "vllm_endpoints": [{"name": "e", "address": "h", "port": draw(st.integers(1, 65535))}],
        "model_config": {model: {"loras": [{"name": lora} for lora in loras[model]]} for model in models},
        "default_model": models[0],
        "categories": [
            {"name": name, "system_prompt": "S", "model_scores": [score() for _ in range(draw(st.integers(0, 3)))]}
            for name in categories
        ],
        "keyword_rules": [
            {"category": name, "operator": draw(st.sampled_from(["OR", "AND", "NOR"])), "keywords": ["a", "b"]}
            for name in categories
            if draw(st.booleans())
        ],
    }


@given(flat_files())
def test_any_flat_file_means_the_same_after_migration(document: dict[str, Any]) -> None:
    text = yaml.safe_dump(document)
    assert is_flat(document)
    config = loads(text).config
    assert loads(migrate(text)).config == config
    scores = [ref for category in document["categories"] for ref in category["model_scores"]]
    kept = [
        {"model": ref.model, "score": ref.score} | ({"lora_name": ref.lora_name} if ref.lora_name else {})
        for decision in config.routing.decisions
        if decision.priority == 10
        for ref in decision.modelRefs
    ]
    assert kept == scores

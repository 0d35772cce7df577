"""Reading configurations: what is wrong is said where it was written."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from triton_router.config import Config, ConfigError, Problem, load, loads

SAMPLES = Path(__file__).parents[2] / "config"

GOOD = """
version: v0.3
providers:
  defaults: {default_model: small}
  models:
    - name: small
      backend_refs: [{endpoint: "127.0.0.1:8000"}]
"""


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        loads(textwrap.dedent(text), file="router.yaml")
    return caught.value.problems


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_sample_loads(sample: Path) -> None:
    loaded = load(sample)
    assert loaded.config.providers.models
    assert all("not active yet" in warning.message for warning in loaded.warnings)


def test_the_fifteen_rules_are_all_there() -> None:
    routing = load(SAMPLES / "aibrix.yaml").config.routing
    assert [decision.priority for decision in routing.decisions] == [15] + [10] * 13 + [5]
    assert len(routing.signals.domains) == 14


def test_all_problems_of_a_file_are_reported_at_once_with_line_path_and_nearest_name() -> None:
    report = problems(
        """\
        version: v0.3
        providers:
          defaults:
            default_model: smal
          modls: []
          models:
            - name: small
              reasoning_family: qwen
              backend_refs:
                - endpoint: nohost
            - name: small
              api_format: openai
              backend_refs: [{endpoint: "a:1"}]
        routing:
          strategy: prioirty
          signals:
            domains: [{name: math}]
          decisions:
            - name: a
              priority: high
              rules:
                operator: NOT
                conditions: []
              modelRefs:
                - {model: smll}
              plugins:
                - type: system_promt
                  configuration: {system_prompt: x}
            - name: b
              rules: {type: domain, name: maths}
        """
    )
    summary = {(problem.line, problem.severity, problem.path, problem.suggestion) for problem in report}
    assert summary == {
        (4, "error", "providers.defaults.default_model", "small"),
        (5, "error", "providers.modls", "models"),
        (8, "warning", "providers.models[0].reasoning_family", None),
        (10, "error", "providers.models[0].backend_refs[0].endpoint", None),
        (11, "error", "providers.models[1].name", None),
        (12, "warning", "providers.models[1].api_format", None),
        (15, "error", "routing.strategy", "priority"),
        (20, "error", "routing.decisions[0].priority", None),
        (21, "error", "routing.decisions[0].rules", None),
        (25, "error", "routing.decisions[0].modelRefs[0].model", "small"),
        (27, "error", "routing.decisions[0].plugins[0].type", "system_prompt"),
        (30, "error", "routing.decisions[1].rules.name", "math"),
    }
    where, what = "router.yaml:4: error: providers.defaults.default_model", "no model or adapter named `smal`"
    assert str(report[0]) == f"{where}: {what}; did you mean `small`?"


def test_a_key_written_twice_names_both_lines() -> None:
    (problem,) = problems(GOOD + "version: v0.3\n")
    assert (problem.line, problem.path) == (8, "version")
    assert "first on line 2" in problem.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("- a\n- b\n", "must be a mapping"),
        ("providers: [unclosed\n", "not valid YAML"),
        ("a: &x [*x]\n", "recursi"),
        ("version: v0.2\nproviders: {models: [{name: m, backend_refs: [{endpoint: 'a:1'}]}]}\n", "not one of v0.3"),
        ("version: v0.3\n", "at least one model"),
    ],
)
def test_files_of_another_shape_are_refused(text: str, message: str) -> None:
    assert any(message in problem.message for problem in problems(text))


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "nowhere.yaml")


def test_a_section_with_nothing_below_means_its_default() -> None:
    text = GOOD + "routing:\n  signals:\n  decisions:\nglobal:\n"
    assert loads(text).config.routing == loads(GOOD).config.routing


def test_reference_keys_that_do_nothing_here_are_named_and_harmless() -> None:
    (warning,) = loads(GOOD + "listeners: [{name: http, port: 8899}]\n").warnings
    assert (warning.severity, warning.path, warning.line) == ("warning", "listeners", 8)


def test_the_configuration_cannot_be_changed() -> None:
    config = loads(GOOD).config
    with pytest.raises(ValueError, match="frozen"):
        config.version = "v0.3"  # type: ignore[misc]


def test_rest_beyond_loopback_needs_a_token() -> None:
    (problem,) = problems(GOOD + "global: {services: {api: {host: 0.0.0.0}}}\n")
    assert problem.path == "global.services.api.host"


def test_every_key_is_described() -> None:
    schema = Config.model_json_schema(by_alias=True)
    undescribed = [
        f"{name}.{key}"
        for name, definition in schema["$defs"].items()
        for key, value in definition.get("properties", {}).items()
        if "description" not in value and key != "type"
    ]
    assert undescribed == []


@pytest.mark.parametrize(("before", "after", "warned"), [
    ("FULL_DUPLEX_STREAMED", None, True), ("FULL_DUPLEX_STREAMED", "NONE", True),
    ("FULL_DUPLEX_STREAMED", "STREAMED", False), ("BUFFERED", "NONE", False),
])  # fmt: skip
def test_answers_that_envoy_will_not_show_are_warned_of(before: str, after: str | None, warned: bool) -> None:
    mode = f", response_body_mode: {after}" if after else ""
    loaded = loads(GOOD + f"global: {{services: {{envoy: {{request_body_mode: {before}{mode}}}}}}}\n")
    assert [warning.path for warning in loaded.warnings] == ["global.services.envoy.request_body_mode"] * warned


CACHED = """
version: v0.3
providers: {models: [{name: small, backend_refs: [{endpoint: "127.0.0.1:8000"}]}]}
routing: {decisions: [{name: all, plugins: [{type: semantic-cache}]}]}
global: {stores: {semantic_cache: {backend_type: redis, redis: {url: "URL"}}}}
"""


@pytest.mark.parametrize("url", ["cache:6379", "http://cache:6379", "127.0.0.1"])
def test_an_address_that_only_a_start_would_refuse_is_an_error(url: str) -> None:
    (problem,) = problems(CACHED.replace("URL", url))
    assert (problem.line, problem.path) == (5, "global.stores.semantic_cache.redis.url")


@pytest.mark.parametrize(
    ("text", "path", "extra"),
    [
        (CACHED.replace("URL", "redis://cache"), "global.stores.semantic_cache.backend_type", "redis"),
        (CACHED.replace("redis: {url: URL}", "").replace("backend_type: redis", "backend_type: milvus")
         .replace(', redis: {url: "URL"}', ', milvus: {uri: "http://m:19530"}'),
         "global.stores.semantic_cache.backend_type", "milvus"),
        (GOOD + "global: {services: {observability: {tracing: {enabled: true}}}}\n",
         "global.services.observability.tracing.enabled", "tracing"),
    ],
    ids=["redis", "milvus", "tracing"],
)  # fmt: skip
def test_a_package_that_is_not_there_is_an_error(
    text: str, path: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *_: None)
    assert [problem.path for problem in problems(text) if f"triton-router[{extra}]" in problem.message] == [path]

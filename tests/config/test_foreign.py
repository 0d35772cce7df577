"""Files of vLLM Semantic Router: their spellings, what does nothing here, and what would have protected."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

from triton_router.cli import main
from triton_router.config import ConfigError, Problem, loads, wrapped
from triton_router.config.coverage import coverage, table
from triton_router.config.document import parse

BASE = """
providers:
  defaults: {default_model: small}
  models: [{name: small, backend_refs: [{endpoint: "127.0.0.1:1"}]}]
"""
GUARDED = BASE + "routing: {decisions: [{name: block, rules: {type: hallucination, name: attack}}]}\n"


def errors(text: str, *, allow: tuple[str, ...] = ()) -> list[Problem]:
    try:
        loads(text, allow_inactive=allow)
    except ConfigError as error:
        return [problem for problem in error.problems if problem.severity == "error"]
    return []


@pytest.mark.parametrize(
    "rules",
    ["{operator: AND, conditions: []}", "{}", "{operator: AND, conditions: [{operator: AND, conditions: []}]}"],
)
def test_rules_without_conditions_match_everything(rules: str) -> None:
    from triton_router.decisions import choose

    config = loads(f"{BASE}routing: {{decisions: [{{name: all, rules: {rules}}}]}}\n").config
    choice = choose(config.routing.decisions, {}, "priority")
    assert choice.decision is not None
    assert (choice.decision.name, choice.confidence) == ("all", 0.0)


def test_an_or_of_nothing_is_a_mistake() -> None:
    (problem,) = errors(f"{BASE}routing: {{decisions: [{{name: a, rules: {{operator: OR, conditions: []}}}}]}}\n")
    assert "at least one condition" in problem.message


def test_generated_files_write_empty_texts_for_what_is_not_set() -> None:
    text = BASE + 'global: {router: {auto_model_names: [], auto_model_name: ""}, model_catalog: {modules: {classifier: '
    text += '{domain: {model_id: "", threshold: 0.4}, mcp: {enabled: false, transport_type: "", url: ""}}}}}\n'
    config = loads(text).config.global_
    assert config.model_catalog.modules.classifier.domain.model_id is None
    assert config.router.auto_model_names == ("MoM", "auto")
    # A text that has to be there is not there.
    assert any("name" in problem.path for problem in errors(BASE.replace("name: small", 'name: ""')))


def test_keys_that_0_4_0_renamed() -> None:
    text = """
providers:
  defaults: {model: big, reasoning_effort: high}
  models:
    - name: small
      reasoning: {family: qwen3}
      backend_refs: [{endpoint: "host.internal:8000/v1"}]
      reliability: {base_ejection_time: 30s, health_check_interval: 500ms, retry_on: 5xx}
    - name: big
      reasoning: {type: chat_template_kwargs, parameter: thinking}
      backend_refs: [{endpoint: "127.0.0.1:2"}]
global: {stores: {response_cache: {ttl_seconds: 60}}}
"""
    config = loads(text).config
    defaults = config.providers.defaults
    assert (defaults.default_model, defaults.default_reasoning_effort) == ("big", "high")
    small, big = config.providers.models
    assert small.reasoning_family == "qwen3"
    assert small.backend_refs[0].endpoint == "host.internal:8000"
    assert (small.reliability.base_ejection_time, small.reliability.health_check_interval) == (30, 0.5)
    assert config.providers.defaults.reasoning_families[str(big.reasoning_family)].parameter == "thinking"
    assert config.global_.stores.semantic_cache.ttl_seconds == 60
    # A mistake is shown as it was written.
    (problem,) = errors(text.replace("model: big", "model: bigg"))
    assert (problem.line, problem.path, problem.suggestion) == (3, "providers.defaults.model", "big")


def test_a_candidate_may_be_an_adapter_by_its_own_name() -> None:
    text = (
        BASE
        + """
routing:
  modelCards: [{name: small, loras: [{name: law-lora}]}, {name: law-lora}]
  decisions: [{name: a, modelRefs: [{model: law-lora}]}]
"""
    )
    (ref,) = loads(text).config.routing.decisions[0].modelRefs
    assert (ref.model, ref.lora_name) == ("small", "law-lora")


def test_a_model_whose_place_only_the_gateway_knows() -> None:
    loaded = loads("providers: {models: [{name: m}, {name: n, backend_refs: [{base_url: 'https://x/v1'}]}]}\n")
    absent, served = (model.backend_refs for model in loaded.config.providers.models)
    assert absent == () and [ref.endpoint for ref in served] == ["x:443"]
    assert {warning.path for warning in loaded.warnings} == {"providers.models[0]"}


def test_variables_that_nothing_reads_may_be_unset() -> None:
    inert = BASE + "global: {services: {router_replay: {postgres: {password: '${NOBODY_SETS_THIS}'}}}}\n"
    assert errors(inert) == []
    text = BASE + "global: {stores: {semantic_cache: {redis: {password: '${NOBODY_SETS_THIS}'}}}}\n"
    assert "not set" in errors(text)[0].message


@pytest.mark.parametrize(
    ("addition", "name", "path"),
    [
        ("routing: {decisions: [{name: a, rules: {type: hallucination, name: x}}]}", "hallucination", "rules.type"),
        (
            "routing: {decisions: [{name: a, rules: {operator: NOT, conditions: [{type: safety, name: x}]}}]}",
            "safety",
            "rules.conditions[0].type",
        ),
        (
            "routing: {decisions: [{name: a, plugins: [{type: jailbreak, configuration: {enabled: true}}]}]}",
            "jailbreak",
            "plugins[0].type",
        ),
        (
            "routing: {decisions: [{name: a, plugins: [{type: content_safety, configuration: {enabled: true}}]}]}",
            "content_safety",
            "plugins[0].type",
        ),
        (
            "global: {services: {ratelimit: {providers: [{type: envoy-ratelimit, address: 'limits:8081'}]}}}",
            "ratelimit",
            "ratelimit.providers[0].type",
        ),
        ("listeners: [{name: http, port: 8899, api_keys: [secret]}]", "api_keys", "listeners[0].api_keys"),
        ("routing: {signals: {jailbreak: [{name: a, direction: response}]}}", "direction", "jailbreak[0].direction"),
        ("global: {services: {authz: {providers: [{type: header-injection}]}}}", "providers", "authz.providers"),
    ],
)
def test_what_would_protect_and_cannot_is_an_error_until_it_is_allowed(addition: str, name: str, path: str) -> None:
    (problem,) = errors(BASE + addition + "\n")
    assert problem.path.endswith(path)
    assert f"--allow-inactive {name}" in problem.message
    assert errors(BASE + addition + "\n", allow=("another",)) == [problem]
    assert errors(BASE + addition + "\n", allow=(name,)) == []


def test_the_file_itself_may_allow_it() -> None:
    allowed = GUARDED + "global: {router: {allow_inactive: [hallucination]}}\n"
    (warning,) = loads(allowed).warnings
    assert "never matches" in warning.message


@pytest.mark.parametrize(
    "addition",
    [
        # Switched off, or empty: nothing is lost.
        "routing: {decisions: [{name: a, plugins: [{type: content_safety, configuration: {enabled: false}}]}]}",
        "routing: {decisions: [{name: a, plugins: [{type: memory, configuration: {enabled: true}}]}]}",
        "routing: {signals: {hallucination: [{name: nobody_reads_it}]}}",
        "routing: {decisions: [{name: a, plugins: [{type: hallucination}, {type: pii}]}]}",
        "listeners: [{name: http}]\nglobal: {services: {authz: {providers: [{type: static-config}]}}}",
    ],
)
def test_what_protects_nothing_is_a_warning(addition: str) -> None:
    loaded = loads(BASE + addition + "\n")
    assert any("not active" in warning.message or "does nothing" in warning.message for warning in loaded.warnings)
    assert all(not decision.plugins for decision in loaded.config.routing.decisions)


def test_plugins_after_one_that_does_nothing_keep_their_places() -> None:
    text = (
        BASE
        + """
routing:
  decisions:
    - name: a
      plugins:
        - {type: rag, configuration: {enabled: true}}
        - {type: fast_response, configuration: {mesage: hello}}
"""
    )
    assert [(problem.line, problem.path) for problem in errors(text)] == [
        (11, "routing.decisions[0].plugins[1].configuration.mesage")
    ]


def test_check_says_how_much_of_a_file_acts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "router.yaml"
    file.write_text(GUARDED + "listeners: [{name: http, port: 8899}]\n")
    assert main(["check", "--config", str(file)]) == 1
    assert "--allow-inactive hallucination" in capsys.readouterr().err
    assert main(["check", "--config", str(file), "--allow-inactive", "hallucination"]) == 0
    # providers, defaults, default_model, models, name, backend_refs, endpoint, routing, decisions, name; and the inert
    counted = "10 of 16 keys act, 6 do nothing here (hallucination 3, listeners 3), 0 are refused"
    assert counted in capsys.readouterr().out
    file.write_text(BASE)
    assert main(["check", "--config", str(file)]) == 0
    assert "keys act" not in capsys.readouterr().out


def test_labels_of_a_knowledge_base_in_a_file_of_their_own(tmp_path: Path) -> None:
    text = (
        BASE
        + """
routing:
  signals: {kb: [{name: private, kb: privacy, target: {kind: group, value: secret}, match: best}]}
  decisions: [{name: a, rules: {type: kb, name: private}}]
global:
  model_catalog:
    kbs:
      - name: privacy
        source: {path: kb, manifest: labels.json}
        groups: {secret: [code], open: [talk]}
"""
    )
    manifest = tmp_path / "kb" / "labels.json"
    manifest.parent.mkdir()
    file = str(tmp_path / "router.yaml")
    with pytest.raises(ConfigError, match="has no labels"):
        loads(text, file=file)
    labels = {"code": {"exemplars": ["our source"]}, "talk": {"exemplars": ["hello"]}}
    manifest.write_text(json.dumps({"labels": labels}))
    (base,) = loads(text, file=file).config.global_.model_catalog.kbs
    assert base.labels["code"].exemplars == ("our source",)
    with pytest.raises(ConfigError, match="no group named `secrt`"):
        loads(text.replace("value: secret", "value: secrt"), file=file)
    manifest.write_text("[]")
    with pytest.raises(ConfigError, match="no manifest of labels"):
        loads(text, file=file)


def test_knowledge_bases_that_every_file_may_name(tmp_path: Path) -> None:
    text = (
        BASE
        + """
routing:
  signals: {kb: [{name: private, kb: privacy_kb, target: {kind: group, value: privacy_policy}, match: best}]}
  projections:
    scores: [{name: score, inputs: [{type: kb_metric, kb: mmlu_kb, metric: escalate_vs_keep, weight: 1}]}]
    mappings: [{name: bands, source: score, outputs: [{name: up, gt: 0}]}]
  decisions: [{name: a, rules: {type: kb, name: private}}, {name: b, rules: {type: projection, name: up}}]
"""
    )
    privacy, subjects = loads(text).config.global_.model_catalog.kbs
    assert (privacy.name, privacy.threshold, subjects.name) == ("privacy_kb", 0.55, "mmlu_kb")
    for base in (privacy, subjects):
        assert all(label.exemplars for label in base.labels.values())
        assert {label for group in base.groups.values() for label in group} == base.labels.keys()
    (problem,) = errors(text.replace("value: privacy_policy", "value: privacy_polici"))
    assert problem.line == 7 and "no group named" in problem.message
    # A file that declares one has the last word, but for labels that it lacks.
    own = text + "global: {model_catalog: {kbs: [{name: privacy_kb, source: {path: nowhere}, threshold: 0.9, "
    loaded = loads(own + "groups: {privacy_policy: [pii]}}]}}\n", file=str(tmp_path / "router.yaml"))
    assert any("built-in labels" in warning.message for warning in loaded.warnings)
    privacy = next(base for base in loaded.config.global_.model_catalog.kbs if base.name == "privacy_kb")
    assert (privacy.threshold, list(privacy.groups)) == (0.9, ["privacy_policy"])
    assert privacy.labels["pii"].exemplars


@pytest.mark.parametrize(
    ("ref", "endpoint", "protocol", "path"),
    [
        ("endpoint: 'http://h:8000/v1'", "h:8000", "http", None),
        ("endpoint: 'https://api.example.com'", "api.example.com:443", "https", None),
        ("endpoint: 'https://api.example.com/openai/v1'", "api.example.com:443", "https", "/openai/v1"),
        ("endpoint: api.example.com, protocol: https", "api.example.com:443", "https", None),
        ("endpoint: models.local", "models.local:80", "http", None),
        ("endpoint: '', base_url: 'http://h/v1'", "h:80", "http", None),
        ("endpoint: 'h:1', base_url: ''", "h:1", "http", None),
    ],
)
def test_endpoints_as_people_write_them(ref: str, endpoint: str, protocol: str, path: str | None) -> None:
    config = loads(f"providers: {{models: [{{name: m, backend_refs: [{{{ref}}}]}}]}}\n").config
    (backend,) = config.providers.models[0].backend_refs
    assert (backend.endpoint, backend.protocol, backend.path) == (endpoint, protocol, path)


def test_numbers_where_texts_are_meant() -> None:
    signals = "{keywords: [{name: k, keywords: [404, 5.5]}], metadata: [{name: m, key: k, predicate: {equals: 1}}]}"
    routing = loads(f"{BASE}routing: {{signals: {signals}, decisions: [{{name: d, priority: '10'}}]}}\n").config.routing
    assert routing.signals.of("keyword")[0].keywords == ("404", "5.5")
    assert routing.signals.of("metadata")[0].predicate.equals == "1"
    assert routing.decisions[0].priority == 10


def test_thresholds_of_modules_are_those_of_their_signals() -> None:
    text = BASE + "routing: {signals: {fact_check: [{name: needs_fact_check}, {name: sure, threshold: 0.2}]}}\n"
    text += "global: {model_catalog: {modules: {hallucination_mitigation: {fact_check: {threshold: 0.9}}}}}\n"
    signals = loads(text).config.routing.signals.of("fact_check")
    assert [signal.model_dump()["threshold"] for signal in signals] == [0.9, 0.2]
    assert errors(text.replace("0.9", "9"))[0].path.endswith("fact_check.threshold")


def test_null_means_not_set() -> None:
    text = """
providers:
  defaults: {default_model: small, reasoning_families: null}
  models:
    - name: small
      pricing: {prompt_per_1m: null, currency: null}
      reliability: {retry_count: null, base_ejection_time: null, lb_policy: null}
      backend_refs: [{endpoint: "127.0.0.1:1", weight: null, protocol: null}]
routing:
  strategy: null
  projections: null
  signals: {keywords: [{name: k, operator: null, case_sensitive: null, method: null, keywords: [x]}], events: null}
  decisions: [{name: d, rules: {type: keyword, name: k, predicate: null}, modelRefs: [{model: small, weight: null}]}]
entrypoints: null
recipes: null
global: {services: null, stores: {response_cache: {ttl_seconds: null, backend_type: null}}}
"""
    config = loads(text).config
    assert config.providers.models[0].reliability.retry_count == 2
    assert config.global_.stores.semantic_cache.ttl_seconds == 3600
    # What has to be there is not there.
    assert any(problem.path.endswith("keywords") for problem in errors(text.replace("[x]", "null")))


@pytest.mark.parametrize(
    "kind", ["role_bindings: [{role: r", "partitions: [{members: [m]", "keywords: [{keywords: [k]"]
)
def test_a_signal_without_a_name(kind: str) -> None:
    assert any("missing" in problem.message for problem in errors(f"{BASE}routing: {{signals: {{{kind}}}]}}}}\n"))


def test_addresses_of_the_cache_in_parts() -> None:
    def store(settings: str) -> Any:
        return loads(f"{BASE}global: {{stores: {{response_cache: {{{settings}}}}}}}\n").config.global_.stores

    connection = "{host: cache, port: 6380, database: 2, password: pw, timeout: 9, tls: {enabled: true}}"
    redis = store(
        f"backend_type: redis, redis: {{connection: {connection}, index: {{prefix: p}}}}"
    ).semantic_cache.redis
    assert redis.url == "rediss://cache:6380/2" and redis.password.get_secret_value() == "pw"
    connection = "{host: vectors, auth: {enabled: true, username: u, password: p}}"
    milvus = store(f"milvus: {{connection: {connection}, collection: {{name: c, index: {{type: HNSW}}}}}}")
    milvus = milvus.semantic_cache.milvus
    assert (milvus.uri, milvus.collection) == ("http://vectors:19530", "c")
    assert milvus.token.get_secret_value() == "u:p"
    assert store("milvus: {collection: {}}").semantic_cache.milvus.collection == "triton_router_cache"
    loaded = loads(f"{BASE}global: {{stores: {{response_cache: {{backend_type: valkey, valkey: {{a: 1}}}}}}}}\n")
    assert loaded.config.global_.stores.semantic_cache.backend_type == "memory"
    assert any("kept in memory" in warning.message for warning in loaded.warnings)


def test_classifiers_that_are_models_of_their_own_are_never_known() -> None:
    classifiers = "{classifiers: [{name: c, type: llm, model: small, labels: [a, b], instructions: Judge}]}"
    rule = "{type: classifier, name: c, label: a, predicate: {gte: 0.5}, on_error: no_match}"
    loaded = loads(f"{BASE}routing: {{signals: {classifiers}, decisions: [{{name: d, rules: {rule}}}]}}\n")
    assert any("type `llm` are not active" in warning.message for warning in loaded.warnings)
    (problem,) = errors(f"{BASE}routing: {{signals: {{classifiers: [{{name: c, labels: [a]}}]}}}}\n")
    assert "`head` is missing" in problem.message


def test_roles_that_nobody_vouches_for_are_said() -> None:
    bindings = "{role_bindings: [{name: b, role: admin, subjects: [{kind: User, name: ann}]}]}"
    loaded = loads(
        f"{BASE}routing: {{signals: {bindings}, decisions: [{{name: d, rules: {{type: authz, name: b}}}}]}}\n"
    )
    assert any("every request is refused" in warning.message for warning in loaded.warnings)


def test_a_model_that_is_declared_once_for_each_server() -> None:
    text = """
providers:
  models:
    - {name: m, backend_refs: [{endpoint: "a:1"}, {endpoint: "127.0.0.1:99999"}]}
    - {name: n, backend_refs: [{endpoint: "c:1"}]}
    - {name: m, backend_refs: [{endpoint: "b:1"}]}
routing: {modelCards: [{name: m, loras: [{name: x}]}, {name: n}, {name: m, loras: [{name: x}, {name: y}]}]}
"""
    assert [problem.line for problem in errors(text)] == [4]
    loaded = loads(text.replace("127.0.0.1:99999", "d:1"))
    assert [ref.endpoint for ref in loaded.config.providers.models[0].backend_refs] == ["a:1", "d:1", "b:1"]
    assert [lora.name for lora in loaded.config.routing.modelCards[0].loras] == ["x", "y"]
    assert [warning.line for warning in loaded.warnings if "joined" in warning.message] == [6, 7]
    # What else differs is a mistake.
    hidden = text.replace('"127.0.0.1:99999"', '"d:1"').replace("{name: n, b", "{name: m, hidden: true, b")
    assert any("declared twice" in problem.message for problem in errors(hidden))


def test_the_threshold_of_the_cache_may_stand_below() -> None:
    text = (
        BASE
        + """
routing:
  decisions:
    - name: a
      plugins:
        - {type: response_cache, configuration: {mode: exact_then_semantic, semantic: {similarity_threshold: 0.93}}}
"""
    )
    (plugin,) = loads(text).config.routing.decisions[0].plugins
    assert plugin.configuration.similarity_threshold == 0.93
    (problem,) = errors(text.replace("0.93", "9.3"))
    assert problem.path.endswith("configuration.semantic.similarity_threshold")


INNER = """
version: v0.3
providers: {models: [{name: m, backend_refs: [{endpoint: "${HOST}:1"}]}]}
routing: {decisions: [{name: d, wrong: 1}]}
"""


@pytest.mark.parametrize(
    ("outside", "indent", "line"),
    [
        ("---", 0, 4),
        ("image: {tag: '1'}\nglobal: {imageRegistry: ''}\nconfig:", 2, 6),
        ("apiVersion: x/v1\nkind: SemanticRouter\nspec:\n  config:", 4, 7),
        ("kind: ConfigMap\ndata:\n  note.txt: |\n    a: ${UNSET}\n  config.yaml: |", 4, 8),
        ("# two\n---\nkind: Namespace\n---\nkind: ConfigMap\ndata:\n  config.yaml: |", 4, 10),
    ],
)
def test_a_configuration_inside_of_something_else(outside: str, indent: int, line: int) -> None:
    text = f"{outside}{textwrap.indent(INNER, ' ' * indent)}"
    with pytest.raises(ConfigError) as raised:
        loads(text, environment={"HOST": "h"})
    (problem,) = [problem for problem in raised.value.problems if problem.severity == "error"]
    assert (problem.line, problem.path) == (line, "routing.decisions[0].wrong")
    config = loads(text.replace(", wrong: 1", ""), environment={"HOST": "h"}).config
    assert config.providers.models[0].backend_refs[0].endpoint == "h:1"


@pytest.mark.parametrize(
    "text",
    [
        "a: 1\n---\nb: 2\n",
        # Nothing of a configuration is one of its own.
        "global: {services: {authz: {providers: [{type: header-injection}]}}}\n",
        "vllm_endpoints: []\nprompt: |\n  routing: {}\n  providers: {}\n",
    ],
)
def test_what_has_no_configuration_inside_is_read_as_it_is(text: str) -> None:
    assert wrapped.read(text).lines == parse(text).lines


def test_how_much_of_a_schema_acts() -> None:
    schema = {
        "properties": {
            "listeners": {"type": "array", "items": {"$ref": "#/$defs/Listener"}},
            "providers": {"properties": {"defaults": {"properties": {"model": {}, "default_model": {}, "color": {}}}}},
            "version": {},
        },
        "$defs": {"Listener": {"properties": {"name": {}, "inner": {"$ref": "#/$defs/Listener"}}}},
    }
    assert table(coverage(schema)).splitlines()[2:] == [
        "| `listeners` | 0 | 3 | 0 |",
        "| `providers` | 1 | 0 | 0 |",
        "| `providers.defaults` | 3 | 0 | 1 |",
        "| `version` | 1 | 0 | 0 |",
        "| all | 5 | 3 | 1 |",
    ]

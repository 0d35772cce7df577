"""The routing language's own mistakes, variables from the environment, secrets, and long files."""

from __future__ import annotations

import textwrap
import time
from typing import Any

import pytest
import yaml

from triton_router.config import ConfigError, Problem, loads
from triton_router.config.document import parse

MODELS = """
providers:
  models:
    - {name: base, backend_refs: [{endpoint: "127.0.0.1:8000"}]}
    - {name: other, backend_refs: [{endpoint: "127.0.0.1:8001"}]}
"""


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        loads(textwrap.dedent(text), file="router.yaml")
    return caught.value.problems


def test_ten_planted_mistakes_are_all_reported_with_their_lines_and_the_nearest_names() -> None:
    report = problems(
        """\
        providers:
          models:
            - name: base
              backend_refs: [{endpoint: "127.0.0.1:8000"}]
        routing:
          modelCards:
            - {name: base, loras: [{name: law-lora}]}
          signals:
            keywords:
              - {name: cited, match: regex, keywords: ['[0-9]+ USC', 'Art\\. (\\d+']}
              - {name: urgent, keyword: [now]}
            embeddings:
              - {name: billing, candidates: [Where is my invoice?], aggregation_method: maximum}
            context:
              - {name: long, min_tokens: eightK}
            complexity:
              - {name: task, hard: {candidates: [Prove it]}, easy: {candidates: [Spell it]}}
          decisions:
            - name: law
              rules: {type: keyword, name: cites}
              modelRefs: [{model: base, lora_name: laws-lora}]
            - name: hard
              rules: {type: complexity, name: 'task:hrad'}
              plugins:
                - type: header_mutation
                  configuration: {update: [{name: x-selected-model, value: mine}]}
            - name: tenant
              rules: {type: mcp, name: tenant}
              hints: {models: [bass]}
        """
    )
    errors = {(problem.line, problem.path, problem.suggestion) for problem in report if problem.severity == "error"}
    assert errors >= {
        (10, "routing.signals.keywords[0].keywords[1]", None),
        (11, "routing.signals.keywords[1].keyword", "keywords"),
        (13, "routing.signals.embeddings[0].aggregation_method", "max"),
        (15, "routing.signals.context[0].min_tokens", None),
        (20, "routing.decisions[0].rules.name", "cited"),
        (21, "routing.decisions[0].modelRefs[0].lora_name", "law-lora"),
        (23, "routing.decisions[1].rules.name", "task:hard"),
        (26, "routing.decisions[1].plugins[0].configuration.update[0].name", None),
        (28, "routing.decisions[2].rules", None),
        (29, "routing.decisions[2].hints.models[0]", "base"),
    }


@pytest.mark.parametrize(
    ("addition", "path", "message"),
    [
        (
            "global: {model_catalog: {modules: {classifier: {mcp: {url: 'http://me:pw@host/mcp'}}}}}",
            "mcp.url",
            "http_headers",
        ),
        ("global: {model_catalog: {modules: {classifier: {mcp: {transport_type: stdio}}}}}", "mcp", "needs `command`"),
        (
            "routing: {decisions: [{name: a, plugins: [{type: semantic-cache}, {type: response_cache}]}]}",
            "plugins[1].type",
            "declared twice",
        ),
        ("routing: {signals: {keywords: [{name: a, keywords: [x], method: soundex}]}}", "keywords[0]", "not one of"),
        (
            "routing: {signals: {metadata: [{name: a, key: b, predicate: {equals: x, exists: true}}]}}",
            "metadata[0].predicate",
            "one of",
        ),
        (
            "routing: {signals: {structure: [{name: a, feature: {type: count, source: {type: regex}}}]}}",
            "source",
            "needs `pattern`",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(addition: str, path: str, message: str) -> None:
    errors = [problem for problem in problems(MODELS + addition + "\n") if problem.severity == "error"]
    assert any(path in problem.path and message in problem.message for problem in errors), errors


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("routing: {decisions: [{name: a, rules: {type: input_modality, name: x}}]}", "never matches"),
        ("routing: {signals: {input_modality: [{name: x}]}}", "not active"),
        ("global: {model_catalog: {modules: {classifier: {domain: {fallback_category: x}}}}}", "no domain named `x`"),
        ("routing: {signals: {context: [{name: long, min_tokens: 8K}]}}", "not evaluated"),
        (
            "routing: {modelCards: [{name: base, loras: [{name: a}]}, {name: other, loras: [{name: a}]}]}",
            "`base` declares `a` too",
        ),
        (
            "global: {model_catalog: {modules: {classifier: {mcp: {url: h, forward_headers: [X-Tenant-Id]}}}}}",
            "not forwarded",
        ),
        ("global: {model_catalog: {modules: {classifier: {domain: {model_ref: models/x}}}}}", "domain head is used"),
    ],
)
def test_what_has_no_effect_is_a_warning(addition: str, message: str) -> None:
    assert any(message in warning.message for warning in loads(MODELS + addition + "\n").warnings)


def test_ways_of_v03_to_say_how_keywords_match() -> None:
    signals = "routing: {signals: {keywords: [{name: a, keywords: [x], method: regex}, "
    signals += "{name: b, keywords: [xyz], fuzzy_match: true, fuzzy_threshold: 1}, {name: c, keywords: [x]}]}}\n"
    keywords = loads(MODELS + signals).config.routing.signals.keywords
    assert [signal.match for signal in keywords] == ["regex", "fuzzy", "substring"]


# --- variables -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("${HOST}", "gpu-1"),
        ("http://${HOST}:80/$HOST", "http://gpu-1:80/gpu-1"),
        ("${PORT}", 8001),
        ('"${PORT}"', "8001"),
        ("${NOTHING:-8002}", 8002),
        ("${EMPTY:-full}", "full"),
        ("${EMPTY-full}", None),
        ("${NOTHING-}", None),
        ("costs $$5 or $5 or $NOBODY", "costs $5 or $5 or $NOBODY"),
        ("'^end$|${HOST}'", "^end$|gpu-1"),
        ("${SWITCH}", True),
    ],
)
def test_variables_take_the_place_of_values(written: str, meant: Any) -> None:
    environment = {"HOST": "gpu-1", "PORT": "8001", "EMPTY": "", "SWITCH": "true"}
    document = parse(f"key: {written}\n", environment)
    assert document.flaws == []
    assert document.data["key"] == meant


def test_a_variable_that_is_not_set_is_a_mistake_with_its_line() -> None:
    (flaw,) = parse("a: 1\nb: [x, '${MISSING}']\n", {}).flaws
    assert (flaw.line, flaw.path) == (2, ("b", 1))
    assert "`MISSING` is not set" in flaw.message


def test_a_value_cannot_write_keys_of_its_own() -> None:
    document = parse("a: ${EVIL}\n", {"EVIL": "x\nglobal: {router: {}}"})
    assert document.data.keys() == {"a"}


def test_secrets_are_in_no_dump_and_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_TOKEN", "tok-4711")
    text = MODELS + textwrap.dedent(
        """
        routing:
          decisions:
            - name: a
              plugins:
                - type: header_mutation
                  configuration: {add: [{name: x-key, value: "${MCP_TOKEN}"}]}
        global:
          model_catalog:
            modules:
              classifier:
                mcp:
                  url: "http://h/mcp"
                  http_headers: {authorization: "Bearer ${MCP_TOKEN}"}
                  env: {KEY: "${MCP_TOKEN}"}
        """
    )
    config = loads(text).config
    mcp = config.global_.model_catalog.modules.classifier.mcp
    assert mcp is not None and mcp.http_headers["authorization"].get_secret_value() == "Bearer tok-4711"
    assert "4711" not in repr(config) + config.model_dump_json()
    broken = text.replace("env: {KEY:", "env: {KEY: {nested:").replace('TOKEN}"}\n    ', 'TOKEN}"}}\n    ')
    assert "4711" not in "".join(map(str, problems(broken)))


# --- size ----------------------------------------------------------------------------------------------------------


def test_a_document_of_two_thousand_lines_is_read_whole() -> None:
    """Prints the time that it takes; docs/configuration.md is where such a file is described."""
    count = 180
    document = {
        **yaml.safe_load(MODELS),
        "routing": {
            "signals": {"keywords": [{"name": f"k{n}", "keywords": [f"word {n}", f"term {n}"]} for n in range(count)]},
            "decisions": [
                {
                    "name": f"d{n}",
                    "priority": n,
                    "rules": {"operator": "AND", "conditions": [{"type": "keyword", "name": f"k{n}"}]},
                    "modelRefs": [{"model": "base", "use_reasoning": True}],
                }
                for n in range(count)
            ],
        },
    }
    text = yaml.safe_dump(document)
    assert len(text.splitlines()) > 2000
    started = time.perf_counter()
    loaded = loads(text)
    print(f"{len(text.splitlines())} lines in {time.perf_counter() - started:.3f} s")
    assert len(loaded.config.routing.decisions) == count
    wrong = text.replace("name: k7\n", "name: q7\n", 1)
    assert [problem.suggestion for problem in problems(wrong) if problem.severity == "error"] != []


def test_short_keywords_inside_common_words_are_named() -> None:
    text = MODELS + textwrap.dedent("""
        routing:
          signals:
            keywords:
              - {name: web, keywords: [api, rest service]}
              - {name: whole, keywords: [api], match: word}
          decisions:
            - {name: a, rules: {type: keyword, name: web}}
            - {name: b, rules: {type: keyword, name: whole}}
        """)
    (warning,) = loads(text).warnings
    assert (warning.path, warning.line) == ("routing.signals.keywords[0].keywords[0]", 10)
    assert warning.message.startswith("`api` is also found in `rapid`, `capital`")
    assert "`match: word`" in warning.message


def test_a_rule_that_answers_by_itself_is_warned_of_what_it_does_not_read() -> None:
    text = MODELS + textwrap.dedent("""
        routing:
          signals:
            keywords:
              - {name: secret, keywords: [launch code]PARTS}
          decisions:
            - name: blocked
              rules: {type: keyword, name: secret}
              plugins: [{type: fast_response, configuration: {message: No.}}]
        """)
    (warning,) = loads(text.replace("PARTS", "")).warnings
    assert (warning.path, warning.line) == ("routing.signals.keywords[0]", 10)
    assert "`parts: [all]` reads the whole request" in warning.message
    assert loads(text.replace("PARTS", ", parts: [all]")).warnings == []

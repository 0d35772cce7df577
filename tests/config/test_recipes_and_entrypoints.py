"""Recipes and entrypoints in a file: each table is checked by itself, with the places where its author wrote it."""

from __future__ import annotations

import textwrap

import pytest

from triton_router.config import ConfigError, loads

HEAD = """\
providers:
  models:
    - {name: small, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: large, backend_refs: [{endpoint: "127.0.0.1:2"}]}
"""


def problems(text: str) -> list[tuple[int, str, str | None]]:
    with pytest.raises(ConfigError) as caught:
        loads(HEAD + textwrap.dedent(text))
    return [(each.line, each.path, each.suggestion) for each in caught.value.problems if each.severity == "error"]


def test_a_rule_sees_the_signals_of_its_own_recipe_only() -> None:
    assert problems(
        """\
        routing:
          signals: {keywords: [{name: invoice, keywords: [invoice]}]}
          decisions: [{name: bill, rules: {type: keyword, name: invoice}}]
        entrypoints: [{model_names: [desk], recipe: support}]
        recipes:
          - name: support
            routing:
              signals: {keywords: [{name: refund, keywords: [refund]}]}
              decisions:
                - name: bill
                  rules: {type: keyword, name: invoice}
                  modelRefs: [{model: lage}]
                - name: back
                  rules: {type: keyword, name: refnd}
        """
    ) == [
        (15, "recipes[0].routing.decisions[0].rules.name", None),
        (16, "recipes[0].routing.decisions[0].modelRefs[0].model", "large"),
        (18, "recipes[0].routing.decisions[1].rules.name", "refund"),
    ]


def test_what_is_wrong_with_entrypoints_and_names() -> None:
    assert problems(
        """\
        routing: {modelCards: [{name: small, loras: [{name: fine}]}]}
        entrypoints:
          - {model_names: [small, desk], recipe: suport}
          - {model_names: [fine], recipe: default}
          - {model_names: [desk], recipe: support, headers: {x-team: law}}
          - {model_names: [], recipe: support}
        recipes:
          - {name: support, routing: {}}
          - {name: support, routing: {}}
          - {name: default, routing: {}}
        """
    ) == [
        (7, "entrypoints[0].model_names[0]", None),
        (7, "entrypoints[0].recipe", "support"),
        (8, "entrypoints[1].model_names[0]", None),
        (9, "entrypoints[2].model_names[0]", None),
        (10, "entrypoints[3].model_names", None),
        (13, "recipes[1].name", None),
        (14, "recipes[2].name", None),
    ]


def test_model_cards_are_everybodys_and_belong_to_routing() -> None:
    assert problems(
        """\
        entrypoints: [{model_names: [desk], recipe: support}]
        recipes:
          - {name: support, routing: {modelCards: [{name: small}]}}
        """
    ) == [(7, "recipes[0].routing.modelCards", None)]


def test_a_recipe_that_nobody_can_ask_for_is_a_warning() -> None:
    loaded = loads(HEAD + "recipes: [{name: idle, routing: {}}]\n")
    assert [(each.path, "idle" in each.message) for each in loaded.warnings] == [("recipes[0]", True)]


@pytest.mark.parametrize("text", ["recipes: 3", "recipes: [1]", "recipes: [{name: a, routing: 7}]", "entrypoints: 1",
                                  "entrypoints: [{model_names: a, recipe: [b], headers: c}]"])  # fmt: skip
def test_shapes_that_are_wrong_are_reported(text: str) -> None:
    assert problems(text)

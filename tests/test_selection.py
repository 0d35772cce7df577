"""From names and candidates to one model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import pytest

from router.config import loads
from router.selection import ModelCatalog

CONFIG = """
providers:
  defaults:
    default_model: law-lora
    default_reasoning_effort: high
    reasoning_families: {qwen3: {type: chat_template_kwargs, parameter: enable_thinking}}
  models:
    - name: big
      reasoning_family: qwen3
      backend_refs: [{endpoint: "127.0.0.1:1"}]
    - name: small
      backend_refs: [{endpoint: "127.0.0.1:2"}]
    - name: secret
      hidden: true
      backend_refs: [{endpoint: "127.0.0.1:3"}]
routing:
  modelCards:
    - {name: big, loras: [{name: law-lora}, {name: shared-lora}, {name: quiet-lora, hidden: true}]}
    - {name: small, loras: [{name: shared-lora}]}
  decisions:
    - name: split
      modelRefs:
        - {model: big, weight: 3, use_reasoning: true}
        - {model: small, lora_name: shared-lora, weight: 1, reasoning_effort: minimal}
    - name: empty
"""


def catalog(draws: Iterator[float] | None = None) -> ModelCatalog:
    draws = draws or cycle([0.0])
    return ModelCatalog(loads(CONFIG).config, lambda: next(draws))


@pytest.mark.parametrize(
    ("name", "base"),
    [("big", "big"), ("law-lora", "big"), ("shared-lora", "big"), ("secret", None), ("quiet-lora", None), ("x", None)],
)
def test_a_client_may_name_what_is_not_hidden(name: str, base: str | None) -> None:
    selection = catalog().concrete(name)
    assert (selection.base if selection else None) == base
    assert selection is None or selection.use_reasoning is None


def test_the_list_of_models_leaves_hidden_ones_out() -> None:
    assert [(entry.name, entry.parent) for entry in catalog().listed()] == [
        ("MoM", None), ("auto", None), ("big", None), ("law-lora", "big"), ("shared-lora", "big"), ("small", None),
    ]  # fmt: skip


def test_an_adapter_can_be_the_default() -> None:
    default = catalog().default
    assert (default.model, default.base, default.adapter) == ("law-lora", "big", "law-lora")


def test_an_adapter_goes_to_the_base_that_its_model_ref_names() -> None:
    split = loads(CONFIG).config.routing.decisions[0]
    selection = catalog(iter([0.9])).select(split)
    assert (selection.model, selection.base, selection.effort) == ("shared-lora", "small", "minimal")


def test_weights_share_the_traffic() -> None:
    split = loads(CONFIG).config.routing.decisions[0]
    models = catalog(iter([n / 100 for n in range(100)]))
    assert [models.select(split).base for _ in range(100)].count("big") == 75


def test_a_decision_without_candidates_takes_the_default() -> None:
    models = catalog()
    assert models.select(loads(CONFIG).config.routing.decisions[1]) is models.default

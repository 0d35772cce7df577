"""From names and candidates to one model."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import pytest

from triton_router.config import loads
from triton_router.config.schema import ModelRef
from triton_router.selection import Balance, Hint, LoadedAdapters, ModelCatalog, Selection

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
    config = loads(CONFIG).config
    return ModelCatalog(config, Balance(config, draw=lambda: next(draws)))


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


PERSONAS = """
providers:
  models:
    - {name: big, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: small, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  modelCards:
    - name: big
      persona: {system_prompt: of the model}
      loras: [{name: law, persona: {system_prompt: of the adapter, mode: insert}}, {name: tax}]
  decisions:
    - name: all
      hints: {models: [small, big], adapters: [law, other]}
      modelRefs:
        - {model: big, score: 5}
        - {model: big, lora_name: law, score: 4}
        - {model: big, lora_name: tax, score: 3}
        - {model: big, lora_name: law, score: 2, persona: {system_prompt: of the candidate}}
        - {model: small, score: 1}
"""


def test_the_persona_is_that_of_the_candidate_or_its_adapter_or_its_model() -> None:
    config = loads(PERSONAS).config
    models, decision = ModelCatalog(config), config.routing.decisions[0]

    def text(selection: Selection | None) -> str | None:
        return selection.persona.system_prompt if selection and selection.persona else None

    theirs = ["of the model", "of the adapter", "of the model", "of the candidate", None]
    assert [text(each) for each in models.candidates(decision)] == theirs
    # Where the adapter is not loaded, its own goes with it.
    theirs[1] = "of the model"
    assert [text(each) for each in models.candidates(decision, LoadedAdapters({"big": frozenset()}))] == theirs
    assert [text(models.declared(name)) for name in ("big", "law", "tax")] == [theirs[0], "of the adapter", theirs[2]]
    assert text(models.default) == "of the model"
    assert text(models.select(decision, hint=Hint(model="small"))) is None
    assert text(models.select(decision, hint=Hint(adapter="law"))) == "of the adapter"
    assert text(models.select(decision, hint=Hint(adapter="other"))) == "of the model"


# --- adapters, hints, scores, conversations ------------------------------------------------------------------------

TENANTS = """
providers:
  defaults:
    default_model: base
    reasoning_families: {qwen3: {type: chat_template_kwargs, parameter: enable_thinking}}
  models:
    - {name: base, reasoning_family: qwen3, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: other, provider_model_id: org/other, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  modelCards:
    - {name: base, loras: [{name: declared}]}
  decisions:
    - name: open
      modelRefs: [{model: base, lora_name: declared}]
      hints: {models: [other], adapters: ["tenant-*"], reasoning: true}
    - name: closed
      modelRefs: [{model: base, lora_name: declared}]
    - name: scored
      modelRefs:
        - {model: base, score: 0.9, weight: 1}
        - {model: base, lora_name: declared, score: 0.9, weight: 1}
        - {model: other, score: 0.5, weight: 100}
global: {router: {adapter_discovery: {expose: EXPOSE}}}
"""


def tenants(expose: bool = False) -> ModelCatalog:
    return ModelCatalog(loads(TENANTS.replace("EXPOSE", str(expose).lower())).config)


def chosen(name: str, hint: Hint | None = None, loaded: LoadedAdapters | None = None) -> Selection:
    config = loads(TENANTS.replace("EXPOSE", "false")).config
    decisions = {decision.name: decision for decision in config.routing.decisions}
    return tenants().select(decisions[name], loaded or LoadedAdapters(), hint=hint)


@pytest.mark.parametrize(
    ("hint", "model", "base", "reasoning", "refused"),
    [
        (Hint(adapter="tenant-7"), "tenant-7", "base", False, ()),
        (Hint(adapter="tenant-7", use_reasoning=True), "tenant-7", "base", True, ()),
        (Hint(adapter="admin"), "declared", "base", False, ("adapter",)),
        (Hint(model="other"), "other", "other", False, ()),
        (Hint(model="other", adapter="tenant-7"), "tenant-7", "other", False, ()),
        (Hint(model="base", adapter="declared"), "declared", "base", False, ()),
        (Hint(model="elsewhere", adapter="tenant-7"), "declared", "base", False, ("model", "adapter")),
        (Hint(), "declared", "base", False, ()),
    ],
)
def test_hints_are_followed_as_far_as_the_decision_allows(
    hint: Hint, model: str, base: str, reasoning: bool, refused: tuple[str, ...]
) -> None:
    selection = chosen("open", hint)
    assert (selection.model, selection.base, selection.use_reasoning) == (model, base, reasoning)
    assert selection.refused_hints == refused


def test_a_decision_that_allows_nothing_follows_no_hint() -> None:
    selection = chosen("closed", Hint("other", "tenant-7", True))
    assert (selection.model, selection.base, selection.use_reasoning) == ("declared", "base", False)
    assert selection.refused_hints == ("model", "adapter", "reasoning")


def test_an_adapter_that_is_known_to_be_missing_gives_way_to_its_base() -> None:
    selection = chosen("closed", loaded=LoadedAdapters({"base": frozenset()}))
    assert (selection.model, selection.upstream, selection.adapter, selection.missing) == (
        "base", "base", None, "declared",
    )  # fmt: skip
    assert selection.family is not None, "the base thinks as the adapter would have"
    choice = chosen("closed", loaded=LoadedAdapters({"base": frozenset({"declared"}), "other": frozenset()}))
    assert (choice.model, choice.missing) == ("declared", None)


def test_the_backends_name_of_a_model_goes_upstream() -> None:
    selection = chosen("open", Hint(model="other"))
    assert (selection.model, selection.upstream) == ("other", "org/other")
    named = tenants().concrete("other")
    assert named is not None and named.upstream == "org/other"


def test_only_the_best_scores_take_part() -> None:
    models = [chosen("scored").model for _ in range(200)]
    assert set(models) == {"base", "declared"}
    assert 60 < models.count("base") < 140


def test_a_conversation_stays_and_moves_only_with_its_own_candidate() -> None:
    config = loads(CONFIG).config
    split = config.routing.decisions[0]
    models = {str(n): ModelCatalog(config).select(split, session=str(n)).model for n in range(400)}
    again = {name: ModelCatalog(config).select(split, session=name).model for name in models}
    assert again == models
    assert 240 < list(models.values()).count("big") < 360, "three of four, by weight"
    wider = split.model_copy(update={"modelRefs": (*split.modelRefs, ModelRef(model="secret", weight=4))})
    moved = {name: ModelCatalog(config).select(wider, session=name).model for name in models}
    assert {model for name, model in moved.items() if model != models[name]} == {"secret"}


def test_what_backends_list_is_shown_only_if_asked_for_and_never_a_tenants() -> None:
    loaded = LoadedAdapters({"base": frozenset({"declared", "found", "tenant-7"})})
    assert tenants().concrete("found", loaded) is None
    assert [entry.name for entry in tenants().listed(loaded)] == ["MoM", "auto", "base", "declared", "other"]
    exposed = tenants(expose=True)
    assert [entry.name for entry in exposed.listed(loaded)][-1] == "found"
    selection = exposed.concrete("found", loaded)
    assert selection is not None and (selection.model, selection.base) == ("found", "base")
    assert exposed.concrete("tenant-7", loaded) is None
    assert exposed.concrete("found", LoadedAdapters()) is None

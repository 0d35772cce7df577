"""Heads that read every part, on a Triton that says `jailbreak` where it sees the word `attack`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sites import Site, bundle_with, site_of

from triton_router.config import loads
from triton_router.errors import BundleError
from triton_router.exchange import Outcome
from triton_router.generations import Generations
from triton_router.inference.bundle import Bundle
from triton_router.telemetry import Metrics

# About 2,200 characters.
FILLER = "The weather in the north was mild this morning, and we went for a walk. " * 30
LABELS = ("benign", "jailbreak", "prompt_injection")

CONFIG = """
providers:
  models:
    - {name: cloud, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: own, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals:
    jailbreak: [{name: attack, threshold: 0.6, include_history: false}]
    classifiers: [{name: not harmless, head: jailbreak, labels: [jailbreak], threshold: 0.6}]
  decisions:
    - {name: careful, rules: {type: classifier, name: not harmless}, modelRefs: [{model: own}]}
    - name: no attacks
      rules: {type: jailbreak, name: attack}
      plugins: [{type: block, configuration: CHOICE}]
global: {inference: {endpoint: "ADDRESS", deadline_ms: 5000}}
"""


@pytest.fixture
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    head = {"name": "jailbreak", "output": "jailbreak", "labels": LABELS}
    async with site_of(CONFIG.replace("CHOICE", getattr(request, "param", "{}")), [head], "attack") as site:
        yield site


def blocked(outcome: Outcome) -> int | None:
    return getattr(outcome, "status", None)


@pytest.mark.parametrize("model", ["MoM", "cloud"])
async def test_an_attack_in_any_part_is_refused(site: Site, model: str) -> None:
    assert blocked(await site.ask("hello", model=model)) is None
    assert blocked(await site.ask("an attack", model=model)) == 403
    assert blocked(await site.ask("an attack", model=model, role="tool")) == 403
    assert blocked(await site.ask("an attack", model=model, role="system")) == 403
    assert blocked(await site.ask("a t t a c k and @tt4ck", model=model)) == 403
    assert blocked(await site.ask(FILLER + "attack " + FILLER, model=model, role="tool")) == 403


async def test_all_passages_of_a_request_are_in_few_calls(site: Site) -> None:
    site.triton.rows = site.triton.calls = 0
    long = " ".join(f"Line {number} of the report says {number * 7}." for number in range(300))
    assert blocked(await site.ask(long)) is None
    assert 16 < site.triton.rows <= 24
    assert site.triton.calls <= 4


async def test_one_call_says_what_a_prompt_is_about_and_whether_it_attacks(site: Site) -> None:
    assert blocked(await site.ask(last="What is a comet?", model="MoM")) is None
    site.triton.calls = site.triton.rows = 0
    assert blocked(await site.ask(last="How do vaccines train the immune system?", model="MoM")) is None
    assert (site.triton.calls, site.triton.rows) == (1, 1)
    assert blocked(await site.ask(last="How does an attack train it?", model="MoM")) == 403
    assert (site.triton.calls, site.triton.rows) == (2, 2)


async def test_a_turn_later_only_what_is_new_is_judged(site: Site) -> None:
    long = " ".join(f"Line {number} of the report says {number * 7}." for number in range(300))
    await site.ask(long, last="and?")
    site.triton.rows = 0
    assert blocked(await site.ask(long, "and?", last="an attack")) == 403
    assert site.triton.rows == 1


@pytest.mark.parametrize("model", ["MoM", "cloud"])
async def test_more_than_is_judged_is_unknown_and_not_harmless(site: Site, model: str) -> None:
    long = " ".join(f"Line {number} of the report says {number * 7}." for number in range(2_000))
    assert blocked(await site.ask(long, model=model)) == 503


@pytest.mark.parametrize("site", ["{shadow: true}"], indirect=True)
async def test_the_prompt_alone_is_what_a_classifier_reads(site: Site) -> None:
    models = [
        (await site.ask(*contents, model="MoM", last=last)).headers["x-selected-model"]
        for contents, last in (((), "hello"), (("an attack",), "Which river flows through Paris?"), ((), "an attack"))
    ]
    assert models == ["cloud", "cloud", "own"]


@pytest.mark.parametrize(
    ("site", "result"),
    [("{}", 503), ("{on_unknown: ignore}", None), ("{on_unknown: deny}", 503)],
    indirect=["site"],
)
@pytest.mark.parametrize("model", ["MoM", "cloud"])
async def test_without_triton_it_does_what_the_operator_chose(site: Site, result: int | None, model: str) -> None:
    site.triton.down = True
    assert blocked(await site.ask("hello", model=model)) == result


async def test_a_script_that_the_trunk_cannot_read_is_unknown_and_not_harmless(site: Site) -> None:
    assert blocked(await site.ask("\u043a\u0430\u043a \u0442\u0430\u043c \u0434\u0435\u043b\u0430")) == 503


async def test_each_passage_is_read_by_the_trunk_of_its_language() -> None:
    head = {"name": "jailbreak", "output": "jailbreak", "labels": LABELS}
    english, german = "Please tell me what the weather will be like", "Bitte sag mir, wie das Wetter morgen wird"
    async with site_of(CONFIG.replace("CHOICE", "{}"), [head], "attack", trunks=2) as site:
        first, second = (trunk.name for trunk in site.triton.bundle.trunks)
        for contents, last, trunks, status in (
            ((), english, {first}, None),
            ((), german, {second}, None),
            ((f"{german} attack",), english, {first, second}, 403),
            ((f"{english} attack",), german, {first, second}, 403),
        ):
            site.triton.trunk_names.clear()
            assert blocked(await site.ask(*contents, last=last)) == status
            assert set(site.triton.trunk_names) <= trunks
        assert blocked(await site.ask(f"{german} und dann kommt attack", role="tool", last=german)) == 403
        assert site.triton.trunk_names[-1] == second


def test_a_bundle_without_the_head_does_not_load() -> None:
    bundle, tokenizers = bundle_with([])
    text = CONFIG.replace("ADDRESS", "127.0.0.1:1").replace("CHOICE", "{}")
    with pytest.raises(BundleError, match="no head `jailbreak`"):
        asyncio.run(_generations(text, bundle, tokenizers))


def test_a_label_that_the_head_does_not_have_does_not_load() -> None:
    bundle, tokenizers = bundle_with([{"name": "jailbreak", "output": "jailbreak", "labels": LABELS}])
    text = CONFIG.replace("ADDRESS", "127.0.0.1:1").replace("CHOICE", "{}").replace("labels: [jail", "labels: [jale")
    with pytest.raises(BundleError, match="did you mean `jailbreak`"):
        asyncio.run(_generations(text, bundle, tokenizers))


async def _generations(text: str, bundle: Bundle, tokenizers: dict[str, bytes]) -> Generations:
    return Generations(loads(text), bundle, tokenizers, Metrics())

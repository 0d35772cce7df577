"""Names by a head that judges tokens, on a Triton that takes the word `ada` for one."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from sites import Site, bundle_with, site_of

from triton_router.config import loads
from triton_router.errors import BundleError
from triton_router.exchange import Forward
from triton_router.generations import Generations
from triton_router.telemetry import Metrics

HEAD = {"name": "names", "output": "names", "labels": ["O", "B-GIVEN_NAME"], "per_token": True}
CARD = "4111 1111 1111 1111"

CONFIG = """
providers:
  models:
    - {name: cloud, backend_refs: [{endpoint: "127.0.0.1:1"}]}
    - {name: own, backend_refs: [{endpoint: "127.0.0.1:2"}]}
routing:
  signals: {pii: [{name: who, pii_types_denied: [PERSON, CREDIT_CARD]}]}
  decisions:
    - {name: masked, rules: {type: pii, name: who}, plugins: [{type: mask, configuration: CHOICE}]}
global: {inference: {endpoint: "ADDRESS", deadline_ms: 5000, max_passages: 6}}
"""


@pytest.fixture
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with site_of(CONFIG.replace("CHOICE", getattr(request, "param", "{}")), [HEAD], "ada") as site:
        yield site


async def forward(site: Site, *contents: str, model: str = "cloud") -> list[str]:
    outcome = await site.ask(*contents, model=model)
    assert isinstance(outcome, Forward)
    return [each["content"] for each in json.loads(outcome.body or b"")["messages"]] if outcome.body else list(contents)


@pytest.mark.parametrize("model", ["MoM", "cloud"])
async def test_a_name_is_masked_wherever_it_stands(site: Site, model: str) -> None:
    turns = await forward(site, "I am Ada and pay", f"Ada, is it {CARD}?", model=model)
    assert turns[:2] == ["I am [PERSON_1] and pay", "[PERSON_1], is it [CREDIT_CARD_1]?"]


async def test_what_was_tagged_before_is_not_tagged_again(site: Site) -> None:
    await forward(site, "I am Ada", "and pay")
    site.triton.rows = 0
    assert await forward(site, "I am Ada", "and pay", "with this") == [
        "I am [PERSON_1]",
        "and pay",
        "with this",
        "and now?",
    ]
    assert site.triton.rows == 1


async def test_nobody_is_asked_about_types_that_rules_find() -> None:
    config = CONFIG.replace("CHOICE", "{}").replace("PERSON, ", "")
    async with site_of(config, [HEAD], "ada") as site:
        site.triton.calls = 0
        assert await forward(site, "I am Ada") == ["I am Ada"]
        assert site.triton.calls == 0


@pytest.mark.parametrize(("site", "result"), [("{}", 503), ("{on_unknown: ignore}", None)], indirect=["site"])
async def test_without_triton_it_is_unknown_whether_there_is_a_name(site: Site, result: int | None) -> None:
    site.triton.down = True
    outcome = await site.ask("I am Ada")
    assert getattr(outcome, "status", None) == result


async def test_without_triton_rules_find_what_they_find(site: Site) -> None:
    site.triton.down = True
    assert (await forward(site, f"it is {CARD}"))[0] == "it is [CREDIT_CARD_1]"


async def test_more_than_is_tagged_is_unknown(site: Site) -> None:
    outcome = await site.ask(" ".join(str(number) for number in range(2_000)))
    assert getattr(outcome, "status", None) == 503


async def test_a_bundle_that_tags_no_names_does_not_load() -> None:
    text = CONFIG.replace("CHOICE", "{}").replace("ADDRESS", "127.0.0.1:1")
    bundle, tokenizers = bundle_with([])
    with pytest.raises(BundleError, match="no head `names`"):
        Generations(loads(text), bundle, tokenizers, Metrics())
    bundle, tokenizers = bundle_with([HEAD | {"per_token": False}])
    with pytest.raises(BundleError, match="tags no tokens"):
        Generations(loads(text), bundle, tokenizers, Metrics())

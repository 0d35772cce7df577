"""Heads for other routers: what vLLM Semantic Router's `http_classify` asks, and gets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sites import Site, site_of

from triton_router.api.app import create_app

GUARD = {"name": "jailbreak", "output": "jailbreak", "labels": ["benign", "prompt_injection", "jailbreak"]}
NAMES = {"name": "names", "output": "names", "labels": ["O", "B-GIVEN_NAME"], "per_token": True}
CARD = "4111 1111 1111 1111"

CONFIG = """
providers: {models: [{name: cloud, backend_refs: [{endpoint: "127.0.0.1:1"}]}]}
routing:
  signals: {domains: [{name: math}]}
  decisions: [{name: sums, rules: {type: domain, name: math}, modelRefs: [{model: cloud}]}]
global: {inference: {endpoint: "ADDRESS", deadline_ms: 5000}}
"""


@pytest.fixture
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with site_of(CONFIG, getattr(request, "param", [GUARD, NAMES]), "ada") as site:
        yield site


async def ask(site: Site, text: str, host: str = "router", path: str = "/classify") -> httpx.Response:
    transport = httpx.ASGITransport(create_app(lambda: site.generations.current))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}:8080") as rest:
        return await rest.post(path, json={"inputs": text})


@pytest.mark.parametrize(("host", "path"), [("jailbreak.guards.svc", "/classify"), ("x", "/classify/jailbreak")])
async def test_a_head_gives_its_whole_distribution(site: Site, host: str, path: str) -> None:
    answer: list[dict[str, Any]] = (await ask(site, "ada", host, path)).json()
    assert answer[0] == {"label": "prompt_injection", "score": pytest.approx(0.9, abs=1e-5)}
    assert {each["label"] for each in answer} == set(GUARD["labels"])
    assert sum(each["score"] for each in answer) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", ["jailbreak--prompt-injection", "jailbreak--prompt_injection"])
async def test_one_label_is_a_score(site: Site, name: str) -> None:
    answer = (await ask(site, "ada", path=f"/classify/{name}")).json()
    assert answer == {"score": pytest.approx(0.9, abs=1e-5)}


async def test_spans_are_in_characters_and_quote_the_text(site: Site) -> None:
    text = f"Ünder 日本: Ada pays with {CARD}."
    spans = (await ask(site, text, "pii")).json()["spans"]
    assert [(each["label"], each["text"]) for each in spans] == [("PERSON", "Ada"), ("CREDIT_CARD", CARD)]
    assert all(text[each["start"] : each["end"]] == each["text"] and 0 <= each["score"] <= 1 for each in spans)
    assert (await ask(site, "nothing here", "pii")).json() == {"spans": []}


@pytest.mark.parametrize("site", [[GUARD]], indirect=True)
async def test_without_a_tagger_rules_find_what_they_find(site: Site) -> None:
    spans = (await ask(site, f"Ada pays with {CARD}", "pii")).json()["spans"]
    assert [each["label"] for each in spans] == ["CREDIT_CARD"]


@pytest.mark.parametrize("name", ["jailbraek", "names", "jailbreak--harmful"])
async def test_a_classifier_that_is_not_there(site: Site, name: str) -> None:
    answer = await ask(site, "x", path=f"/classify/{name}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "classifier_not_found")
    assert "there are pii, domain, jailbreak" in answer.json()["error"]["message"]


async def test_no_answer_is_no_harmless_answer(site: Site) -> None:
    site.triton.down = True
    assert (await ask(site, "ada", "jailbreak")).status_code == 503
    assert (await ask(site, "ada", "pii")).status_code == 503


async def test_a_text_that_nobody_reads_is_no_harmless_text(site: Site) -> None:
    assert (await ask(site, "как там дела у вас сегодня", "jailbreak")).status_code == 503

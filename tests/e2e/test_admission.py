"""More than can be served, through Envoy: requests go on without the encoder, and what is open is bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from local_stack import PATIENCE, REPOSITORY
from whole_system import Site, running

pytestmark = pytest.mark.e2e

KEYWORD = "Walk me through how to structure a business merger proposal."
DOMAIN = "What is the derivative of x^3 + 2x?"
MOST = 12


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, triton_port: int) -> Iterator[Site]:
    """The fifteen rules, with one call to Triton at a time and few streams."""
    small = {"inference": {"max_in_flight": 1}, "services": {"extproc": {"max_streams": MOST}}}
    config = REPOSITORY / "config" / "aibrix.yaml"
    yield from running(Site(tmp_path_factory.mktemp("narrow"), config, {"global": small}, grpc=triton_port))


async def at_once(site: Site, prompts: list[str], script: str = "") -> list[httpx.Response]:
    headers = {"x-demo-script": script} if script else {}
    async with httpx.AsyncClient(base_url=site.url, timeout=PATIENCE) as client:

        async def ask(prompt: str) -> httpx.Response:
            body = {"model": "MoM", "messages": [{"role": "user", "content": prompt}]}
            return await client.post("/v1/chat/completions", json=body, headers=headers)

        return list(await asyncio.gather(*map(ask, prompts)))


async def test_calls_over_the_limit_are_left_out_and_counted(narrow: Site) -> None:
    before = narrow.metric("router_signal_errors_total", reason="overload")
    answers: list[httpx.Response] = []
    for _ in range(5):
        answers += await at_once(narrow, [DOMAIN, KEYWORD] * (MOST // 2))
    assert {answer.status_code for answer in answers} == {200}
    shed = [answer for answer in answers if answer.headers.get("x-vsr-degraded") == "triton"]
    assert 0 < len(shed) < len(answers)
    assert narrow.metric("router_signal_errors_total", reason="overload") == before + len(shed)
    assert narrow.metric("router_encoder_limit", trunk="minilm") == 1
    decisions = {answer.headers.get("x-vsr-selected-decision") for answer in answers[1::2]}
    assert decisions == {"thinking_decision"}


async def test_envoy_holds_no_more_streams_than_it_may(narrow: Site) -> None:
    answers = await at_once(narrow, [KEYWORD] * (MOST + 8), "delay=2")
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= MOST
    assert all("error" in answer.json() for answer in answers if answer.status_code == 503)
    assert [answer.status_code for answer in await at_once(narrow, [KEYWORD] * MOST)] == [200] * MOST

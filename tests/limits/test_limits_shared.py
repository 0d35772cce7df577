"""Limits of several routers in one Redis, which may be killed or held up."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from limited import Limited, answered, chat, document
from servers import Server, redis_server

from triton_router.exchange import Forward, Reply


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Plain: no module is needed.
    server = redis_server(tmp_path_factory.mktemp("limits"), search=False)
    yield server
    server.kill()


def sharing(server: Server, *rules: dict[str, Any], deadline_ms: int = 10_000, **limits: Any) -> dict[str, Any]:
    store = {"url": f"redis://127.0.0.1:{server.port}", "prefix": uuid4().hex, "deadline_ms": deadline_ms}
    return document(*rules, provider={"type": "redis", "redis": store}, **limits)


def routers(text: dict[str, Any], number: int = 3) -> list[Limited]:
    """As many as there are, each with connections of its own."""
    made = [Limited(text) for _ in range(number)]
    for each in made:
        # Redis forgets by its own clock.
        each.clock.now = time.time()
    return made


async def close(all_routers: list[Limited]) -> None:
    for each in all_routers:
        await each.stores.close()


async def test_routers_never_admit_more_than_the_limit(redis: Server) -> None:
    many = routers(sharing(redis, {"name": "r", "unit": "hour", "requests_per_unit": 100}))
    outcomes = []
    for _ in range(10):
        outcomes += await asyncio.gather(*(each.ask() for _ in range(10) for each in many))
    assert sum(isinstance(each, Forward) for each in outcomes) == 100
    await close(many)


async def test_tokens_and_money_of_all_routers_are_settled(redis: Server) -> None:
    rules = [{"name": "t", "unit": "hour", "tokens_per_unit": 1000}, {"name": "m", "unit": "hour", "cost_per_unit": 1}]
    many = routers(sharing(redis, *rules))
    used = 0
    for number in range(300):
        outcome = await many[number % 3].ask(chat(max_tokens=50))
        if isinstance(outcome, Reply):
            break
        answered(outcome, prompt=3, completion=7)
        await asyncio.sleep(0.01)
        used += 10
    assert 1000 - 60 < used <= 1000
    await close(many)


async def test_what_redis_holds_goes_by_itself(redis: Server) -> None:
    (router,) = routers(sharing(redis, {"name": "r", "unit": "second", "requests_per_unit": 1}), 1)
    assert await router.statuses(2) == [200, 429]
    client = router.pipeline.limits._places[0][0]._server.client  # type: ignore[attr-defined]
    (key,) = await client.keys()
    assert 0 < await client.pttl(key) <= 11_000
    await close([router])


@pytest.mark.parametrize(("fail_open", "status"), [(True, 200), (False, 503)])
async def test_while_redis_is_gone_the_operator_decides_and_then_it_counts_again(
    redis: Server, fail_open: bool, status: int
) -> None:
    text = sharing(redis, {"name": "r", "unit": "day", "requests_per_unit": 2}, fail_open=fail_open)
    (router,) = routers(text, 1)
    assert await router.statuses(3) == [200, 200, 429]
    redis.kill()
    assert await router.statuses(20) == [status] * 20
    assert router.counted("r", "unavailable") == 20
    outcome = await router.ask()
    if isinstance(outcome, Forward):
        assert outcome.response_headers["x-vsr-limits"] == "r=unavailable"
    else:
        assert outcome.headers["retry-after"] == "1"
    redis.start()
    await asyncio.sleep(1.1)
    assert await router.statuses(3) == [200, 200, 429], "it came back empty"
    await close([router])


async def test_a_redis_that_does_not_answer_does_not_hold_up_every_request(redis: Server) -> None:
    (router,) = routers(sharing(redis, {"name": "r", "unit": "day", "requests_per_unit": 2}, deadline_ms=500), 1)
    server = router.pipeline.limits._places[0][0]._server  # type: ignore[attr-defined]
    calls, within_deadline = [], server.within_deadline
    server.within_deadline = lambda: calls.append(1) or within_deadline()
    redis.hold()
    assert await router.statuses(20) == [200] * 20
    assert len(calls) < 20
    redis.go_on()
    await close([router])


@pytest.mark.parametrize("most", [150, None])
async def test_open_requests_pass_a_budget_by_no_more_than_they_take_beyond_what_is_expected(
    redis: Server, most: int | None
) -> None:
    """Three routers, a hundred requests open at once, answers of 50 to 150 tokens where 100 are expected."""
    budget, chance = 30_000, random.Random(3)
    rule = {"name": "t", "per": [], "unit": "month", "tokens_per_unit": budget, "expected_output_tokens": 100}
    many, used, open_at_once = routers(sharing(redis, rule)), 0, asyncio.Semaphore(100)

    async def one(router: Limited) -> None:
        nonlocal used
        async with open_at_once:
            outcome = await router.ask(chat(max_tokens=most))
            if isinstance(outcome, Forward):
                await asyncio.sleep(0.1)
                tokens = chance.randint(50, 150)
                answered(outcome, 5, tokens)
                used += 5 + tokens

    await asyncio.gather(*(one(many[number % 3]) for number in range(600)))
    assert budget * 0.9 < used <= (budget if most else budget * 1.05)
    await close(many)

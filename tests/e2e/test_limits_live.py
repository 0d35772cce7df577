"""Three routers, each a process, with a limit in one Redis, at 200 requests a second; and without Redis."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from local_stack import PATIENCE
from router_alone import router_alone
from servers import Server, redis_server

pytestmark = pytest.mark.e2e

LIMIT, RATE, REQUESTS = 400, 200, 800


def document(port: int) -> dict[str, Any]:
    # A deadline for machines that do much else; what is late would be let through.
    store = {"url": f"redis://127.0.0.1:{port}", "deadline_ms": 5000}
    rule = {"name": "month", "per": [], "unit": "month", "requests_per_unit": LIMIT}
    return {
        "providers": {"models": [{"name": "m", "backend_refs": [{"endpoint": "127.0.0.1:1"}]}]},
        "global": {"services": {"ratelimit": {"providers": [{"type": "redis", "redis": store, "rules": [rule]}]}}},
    }


@pytest.fixture(scope="module")
def sharing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, list[str]]]:
    directory: Path = tmp_path_factory.mktemp("limits")
    server = redis_server(directory, search=False)
    with ExitStack() as stack:
        stack.callback(server.kill)
        urls = []
        for number in range(3):
            own = directory / str(number)
            own.mkdir()
            urls.append(stack.enter_context(router_alone(own, document(server.port))))
        yield server, urls


async def statuses_of(urls: list[str], number: int) -> Counter[int]:
    """Statuses of so many requests, at a fixed rate, to the routers in turn."""
    body = {"model": "MoM", "messages": [{"role": "user", "content": "hello"}]}
    async with httpx.AsyncClient(timeout=PATIENCE, limits=httpx.Limits(max_connections=200)) as client:
        began, answers = asyncio.get_running_loop().time(), []
        for place in range(number):
            await asyncio.sleep(max(0.0, began + place / RATE - asyncio.get_running_loop().time()))
            url = f"{urls[place % len(urls)]}/api/v1/route"
            answers.append(asyncio.create_task(client.post(url, json=body)))
        return Counter(answer.status_code for answer in await asyncio.gather(*answers))


async def test_the_limit_holds_over_three_routers(sharing: tuple[Server, list[str]]) -> None:
    _, urls = sharing
    statuses = await statuses_of(urls, REQUESTS)
    assert set(statuses) == {200, 429}
    assert LIMIT <= statuses[200] <= LIMIT * 1.01


async def test_no_request_fails_where_redis_is_gone(sharing: tuple[Server, list[str]]) -> None:
    server, urls = sharing
    server.kill()
    assert await statuses_of(urls, REQUESTS // 2) == {200: REQUESTS // 2}

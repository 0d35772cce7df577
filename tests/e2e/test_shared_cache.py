"""A cache in a server beside the router: shared, killed under load, and back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from local_stack import PATIENCE, wait_for
from servers import Server, milvus_server, redis_server
from whole_system import Site, running

pytestmark = pytest.mark.e2e

CONFIG = """
version: v0.3
providers:
  models:
    - {name: talker, backend_refs: [{endpoint: "127.0.0.1:1"}]}
routing:
  signals: {}
  decisions:
    - name: all
      modelRefs: [{model: talker}]
      plugins: [{type: semantic-cache, configuration: {mode: exact}}]
"""
STORES: dict[str, Callable[[Path], Server]] = {"redis": redis_server, "milvus": milvus_server}
ADA = {"authorization": "Bearer ada"}
PROMPTS = [f"What is the number {number} known for?" for number in range(8)]
RATE = 40


class Sharing(Site):
    def __init__(self, directory: Path, grpc: int, kind: str) -> None:
        self.store = STORES[kind](directory)
        place = {
            "redis": {"url": f"redis://127.0.0.1:{self.store.port}"},
            "milvus": {"uri": f"http://127.0.0.1:{self.store.port}"},
        }
        (directory / "shared.yaml").write_text(CONFIG)
        settings = {"backend_type": kind, "secret": "between replicas", **{kind: place[kind]}}
        changes = {"global": {"stores": {"semantic_cache": settings}}}
        super().__init__(directory, directory / "shared.yaml", changes, grpc=grpc)

    def wait_until_normal(self) -> None:
        wait_for(lambda: self.ask("hello").status_code == 200, "routing")

    def hits(self) -> bool:
        """Whether the cache answers."""
        return self.ask(PROMPTS[0], headers=ADA).headers["x-vsr-response-path"] == "cache"


@pytest.fixture(scope="module", params=STORES)
def sharing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, triton_port: int
) -> Iterator[Sharing]:
    site = Sharing(tmp_path_factory.mktemp(request.param), triton_port, request.param)
    try:
        yield from running(site)  # type: ignore[misc]
    finally:
        site.store.kill()


async def load(site: Sharing, until: asyncio.Event) -> list[httpx.Response]:
    """Requests at a fixed rate, most of them repeats."""
    answers: list[asyncio.Task[httpx.Response]] = []
    async with httpx.AsyncClient(base_url=site.url, timeout=PATIENCE, headers=ADA) as client:
        due = time.monotonic()
        while not until.is_set():
            message = {"role": "user", "content": PROMPTS[len(answers) % len(PROMPTS)]}
            body = {"model": "MoM", "messages": [message]}
            answers.append(asyncio.create_task(client.post("/v1/chat/completions", json=body)))
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        return list(await asyncio.gather(*answers))


async def test_no_request_fails_while_the_store_is_gone_and_hits_come_back(sharing: Sharing) -> None:
    wait_for(sharing.hits, "hits")
    over = asyncio.Event()
    loading = asyncio.create_task(load(sharing, over))
    await asyncio.sleep(1)
    missed = sharing.metric("router_cache_lookups_total", result="unavailable")
    await asyncio.to_thread(sharing.store.kill)

    def gone() -> float:
        return sharing.metric("router_cache_lookups_total", result="unavailable") - missed

    await asyncio.to_thread(wait_for, lambda: gone() >= RATE, "requests without the store")
    without = await asyncio.to_thread(gone)
    await asyncio.to_thread(sharing.store.start)
    back = time.monotonic()
    await asyncio.to_thread(wait_for, sharing.hits, "hits after the store is back")
    took = time.monotonic() - back
    over.set()
    answers = await loading
    paths = [answer.headers.get("x-vsr-response-path") for answer in answers]
    print(f"{len(answers)} answers, {paths.count('cache')} from the cache, hits again after {took:.1f} s")
    assert {answer.status_code for answer in answers} == {200}
    assert paths.count("upstream") >= without and "cache" in paths


def test_another_replica_finds_what_the_first_one_kept(sharing: Sharing) -> None:
    wait_for(sharing.hits, "hits")
    sharing.kill("router")
    sharing.start_router()
    wait_for(lambda: sharing.ask("hello").status_code == 200, "routing again")
    assert sharing.hits()
    stranger = sharing.ask(PROMPTS[0], headers={"authorization": "Bearer bob"})
    assert stranger.headers["x-vsr-response-path"] == "upstream"

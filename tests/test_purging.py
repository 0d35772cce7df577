"""Emptying a cache whose server is down: an answer that says so, and nothing ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

import triton_router.talk
from triton_router.api.app import create_app
from triton_router.config import loads
from triton_router.errors import Unavailable
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.telemetry import Metrics, SummedMetrics
from triton_router.worker import Spare, Worker

BUNDLE = Path(__file__).parents[1] / "model_repository" / "bundle.json"

CONFIG = """
providers:
  models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:9"}]}]
routing:
  decisions:
    - name: all
      modelRefs: [{model: base}]
      plugins: [{type: semantic-cache, configuration: {mode: exact}}]
global:
  inference: {endpoint: "127.0.0.1:9"}
  services: {extproc: {port: PORT}}
  stores: {semantic_cache: {backend_type: redis, redis: {url: "redis://127.0.0.1:9", deadline_ms: 500}}}
"""


async def test_over_rest() -> None:
    generations = Generations(loads(CONFIG.replace("PORT", "50051")), *load_bundle(BUNDLE), Metrics())
    transport = httpx.ASGITransport(create_app(lambda: generations.current, purge=generations.purge))
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as rest:
        answer = await rest.post("/api/v1/cache/purge", json={"all": True})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "cache_unavailable"


@contextlib.asynccontextmanager
async def running_worker(text: str = CONFIG) -> AsyncIterator[Worker]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    loaded = loads(text.replace("PORT", str(port)))
    metrics, spare = Metrics(), Spare()
    sums = SummedMetrics(metrics.registry, lambda: None)
    worker = Worker(port, loaded, bundle=BUNDLE, directory=None, metrics=metrics, sums=sums, spare=spare)
    running = asyncio.create_task(worker.run())
    try:
        await asyncio.wait_for(worker.ready.wait(), 60)
        yield worker
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        await spare.close()


async def test_in_a_worker() -> None:
    async with running_worker() as worker:
        for _ in range(2):
            with pytest.raises(Unavailable, match="connection"):
                await worker.purge(None, None)
        # It still answers.
        assert await worker.replay("nothing") is None
        assert worker.ready.is_set()


async def test_in_a_worker_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_worker() as worker:
        assert worker._talk is not None
        os.kill(worker._talk.process.pid, signal.SIGSTOP)
        try:
            monkeypatch.setattr(triton_router.talk, "ANSWER_WITHIN", 0.2)
            with pytest.raises(Unavailable, match="does not answer"):
                await worker.purge(None, None)
        finally:
            os.kill(worker._talk.process.pid, signal.SIGCONT)


async def test_a_late_answer_is_not_taken_for_the_next_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_worker() as worker:
        assert worker._talk is not None
        os.kill(worker._talk.process.pid, signal.SIGSTOP)
        with monkeypatch.context() as patched:
            patched.setattr(triton_router.talk, "ANSWER_WITHIN", 0.2)
            assert await worker.replay("nothing") is None
        os.kill(worker._talk.process.pid, signal.SIGCONT)
        with pytest.raises(Unavailable, match="connection"):
            await worker.purge(None, None)

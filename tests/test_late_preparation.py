"""A generation that went into service before its texts were encoded."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from triton_router import generations as module
from triton_router.config import loads
from triton_router.errors import Unavailable
from triton_router.generations import Generations
from triton_router.inference import Encoder, load_bundle
from triton_router.pipeline import Pipeline
from triton_router.telemetry import Metrics

BUNDLE = Path(__file__).parents[1] / "model_repository" / "bundle.json"
CONFIG = """
providers:
  models: [{name: base, backend_refs: [{endpoint: "127.0.0.1:9"}]}]
global:
  inference: {endpoint: "127.0.0.1:9"}
"""


async def test_its_texts_are_encoded_as_soon_as_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[Pipeline] = []

    async def prepare(pipeline: Pipeline, encoder: Encoder | None = None) -> None:
        attempts.append(pipeline)
        if len(attempts) < 3:
            raise Unavailable("deadline")

    monkeypatch.setattr(module, "PREPARE_AGAIN", 0.01)
    monkeypatch.setattr(Pipeline, "prepare", prepare)
    generations = Generations(loads(CONFIG), *load_bundle(BUNDLE), Metrics())
    async with generations.running():
        next_one = await generations.prepare(loads(CONFIG + "# another"))
        generations.commit(next_one)
        async with asyncio.timeout(60):
            while len(attempts) < 3:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert attempts == [next_one] * 3

"""What becomes of the cache when the configuration changes."""

from __future__ import annotations

from pathlib import Path

from triton_router.answers import Answer
from triton_router.cache.cache import Question, SemanticCache
from triton_router.config import Loaded, loads
from triton_router.dialects.chat import ChatAnswer
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.telemetry import Metrics

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
  stores: {semantic_cache: {SETTINGS}}
"""
QUESTION = Question("a", "b", "c", None, "all", 0.9, 60, True, True)
ANSWER: Answer = ChatAnswer(False, "Paris.", "stop", complete=True)


def having(settings: str) -> Loaded:
    return loads(CONFIG.replace("SETTINGS", settings))


def cache_of(generations: Generations) -> SemanticCache:
    cache = generations.current.cache
    assert cache is not None
    return cache


async def filled() -> Generations:
    generations = Generations(having("max_entries: 10"), *load_bundle(BUNDLE), Metrics())
    await cache_of(generations).keep(QUESTION, ANSWER)
    return generations


async def served(generations: Generations, settings: str) -> None:
    generations.commit(await generations.prepare(having(settings)))
    await generations.forget_unused()


async def test_a_file_that_is_rejected_elsewhere_costs_no_answer() -> None:
    generations = await filled()
    await generations.prepare(having("max_entries: 20"))
    await served(generations, "max_entries: 10")
    assert await cache_of(generations).store.size() == 1
    await cache_of(generations).close()


async def test_a_cache_that_was_switched_off_comes_back_empty() -> None:
    generations = await filled()
    await served(generations, "enabled: false, max_entries: 10")
    assert await generations.purge(None, None) == 0
    await served(generations, "max_entries: 10")
    assert await cache_of(generations).store.size() == 0


async def test_an_answer_that_comes_late_is_not_kept_where_nobody_looks() -> None:
    generations = await filled()
    before = cache_of(generations)
    await served(generations, "max_entries: 20")
    await before.keep(QUESTION, ANSWER)
    assert await before.store.size() == 0 and cache_of(generations) is not before

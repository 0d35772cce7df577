"""What only the store in memory promises: its bound, its order of eviction, its graph."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triton_router.cache import memory, vectors
from triton_router.cache.entry import Entry, Vector
from triton_router.cache.memory import Eviction, MemoryStore
from triton_router.cache.vectors import Vectors

EAST, NORTH = np.eye(2, dtype=np.float32)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def entry(number: int, **changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "key": f"{number:x}",
        "partition": "aa",
        "decision": "d",
        "prompt": "",
        "embedding": EAST,
        "answer": b"{}",
        "stored_at": 1000.0,
        "ttl_seconds": 60.0,
    }
    return Entry(**{**fields, **changes})


def rows(count: int, dimension: int = 32, seed: int = 3) -> Vector:
    made = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


async def built(held: Vectors[Any]) -> None:
    while held._building is not None:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(("eviction", "victims"), [("fifo", "01"), ("lru", "31"), ("lfu", "34")])
async def test_which_entry_makes_room(eviction: Eviction, victims: str) -> None:
    store = MemoryStore(5, eviction, Clock())
    for number in range(5):
        await store.put(entry(number, partition=f"{number:x}"))
    for key in "1112040":
        assert await store.get(key) is not None
    # A lookup by meaning is use as well.
    assert await store.nearest("2", EAST, 1, 0.5)
    remaining = set("01234")
    for number, victim in zip((10, 11), victims, strict=True):
        await store.put(entry(number))
        remaining.remove(victim)
        assert {key for key in store._slots if key in "01234"} == remaining
        for _ in range(3):
            assert await store.get(f"{number:x}") is not None
    assert await store.size() == 5
    await store.close()


async def test_an_entry_put_again_is_new_again() -> None:
    store = MemoryStore(2, "fifo", Clock())
    for number in (1, 2, 1, 3):
        await store.put(entry(number))
    assert [await store.get(key) is not None for key in "123"] == [True, False, True]
    await store.close()


@pytest.mark.parametrize("eviction", ["fifo", "lru", "lfu"])
async def test_the_bound_holds_at_every_moment(eviction: Eviction) -> None:
    clock, random = Clock(), np.random.default_rng(1)
    store = MemoryStore(50, eviction, clock)
    for number in range(3000):
        clock.now += 0.1
        key = int(random.integers(120))
        changes: dict[str, Any] = {"stored_at": clock.now, "ttl_seconds": float(random.integers(1, 20))}
        changes["partition"] = f"{key % 7:x}"
        changes["embedding"] = None if key % 5 == 0 else EAST if key % 2 else NORTH
        await store.put(entry(key, **changes))
        await store.get(f"{random.integers(120):x}")
        nearest = await store.nearest(f"{number % 7:x}", EAST, 4, 0.5)
        assert all(each.partition == f"{number % 7:x}" and not each.expired(clock.now) for _, each in nearest)
        assert len(store._slots) <= 50
        # What the books say of an entry, all of them say.
        assert sum(len(keys) for keys in store._ranks.values()) == len(store._slots)
        assert sum(map(len, store._partitions.values())) == sum(h.label is not None for h in store._slots.values())
        assert len(store._due) <= 2 * len(store._slots) + memory.BATCH + 1
    await store.close()


async def test_time_to_live_is_exact() -> None:
    clock = Clock()
    store = MemoryStore(10, clock=clock)
    await store.put(entry(1))
    clock.now = np.nextafter(1060.0, 0)
    assert await store.get("1") is not None and await store.nearest("aa", EAST, 1, 0.5) and await store.size() == 1
    clock.now = 1060.0
    assert await store.nearest("aa", EAST, 1, 0.5) == [] and await store.get("1") is None and await store.size() == 0
    await store.close()


async def test_many_expired_at_once_hide_nothing() -> None:
    clock = Clock()
    store = MemoryStore(2000, clock=clock)
    for number in range(1000):
        await store.put(entry(number))
    await store.put(entry(5000, ttl_seconds=900.0, embedding=np.array([0.8, 0.6], np.float32)))
    clock.now = 1100.0
    assert [each.key for _, each in await store.nearest("aa", EAST, 4, 0.5)] == [f"{5000:x}"]
    await store.close()


async def test_expired_entries_leave_though_nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SWEEP_SECONDS", 0.05)
    clock = Clock()
    store = MemoryStore(2000, clock=clock)
    for number in range(1000):
        await store.put(entry(number))
    clock.now = 1100.0
    await asyncio.sleep(0.1)
    for _ in range(100):
        if not store._slots:
            break
        await asyncio.sleep(0.02)
    assert not store._slots and not store._partitions and not store._due
    await asyncio.sleep(0.1)
    # Nothing held: nothing to wake up for.
    assert store._sweeping is None
    await store.close()


async def test_another_dimension_in_a_partition_is_refused() -> None:
    store = MemoryStore(10, clock=Clock())
    await store.put(entry(1))
    with pytest.raises(ValueError, match="among those"):
        await store.put(entry(2, embedding=np.ones(3, np.float32)))
    assert await store.size() == 1
    await store.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph takes over early."""
    monkeypatch.setattr(vectors, "EXACT", 256)


def exact(held: dict[int, int], among: Vector, query: Vector, limit: int) -> list[float]:
    return sorted((float(among[number] @ query) for number in held.values()), reverse=True)[:limit]


@pytest.mark.usefixtures("small")
async def test_the_graph_finds_what_a_scan_finds_through_any_number_of_removals() -> None:
    data, queries = rows(8000), rows(100, seed=4)
    store: Vectors[int] = Vectors(32)
    held: dict[int, int] = {}
    for number in range(1000):
        held[store.add(data[number], number)] = number
    await built(store)
    graphs = [store._graph]
    assert store._graph is not None
    for number in range(1000, 8000):
        # As eviction does: one in, the oldest out.
        store.remove(oldest := next(iter(held)))
        del held[oldest]
        held[store.add(data[number], number)] = number
        if store._graph is not graphs[-1]:
            graphs.append(store._graph)
        if number % 20 == 0:
            await asyncio.sleep(0.001)
        if number % 1000 == 0:
            await built(store)
            good = 0
            for query in queries:
                nearest = await store.nearest(query, 4, -1.0)
                assert all(item in held.values() and score == pytest.approx(data[item] @ query, abs=1e-6)
                           for score, item in nearest)  # fmt: skip
                best = exact(held, data, query, 4)
                good += sum(score >= best[-1] - 1e-6 for score, _ in nearest)
            assert good >= 0.97 * 4 * len(queries)
    await built(store)
    # What went while the last graph was being built is dead in it, until the next change.
    store.remove(next(iter(held)))
    store.add(data[0], 0)
    await built(store)
    assert len(store) == 1000 and store._graph is not None and len(store._graph) <= 1501
    # Built anew, many times over, and not once a removal.
    assert 5 <= len(graphs) <= 40
    assert len(store._blocks) == 1


@pytest.mark.usefixtures("small")
async def test_a_question_stored_again_and_again_does_not_hide_behind_its_former_selves() -> None:
    data = rows(2000)
    store: Vectors[int] = Vectors(32)
    for number in range(1, 2000):
        store.add(data[number], number)
    await built(store)
    label = store.add(data[0], 0)
    for _ in range(800):
        store.remove(label)
        label = store.add(data[0], 0)
    assert store._graph is not None and store._building is None
    assert [item for _, item in await store.nearest(data[0], 1, 0.99)] == [0]
    assert len(await store.nearest(data[0], 4, -1.0)) == 4


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("precision", ["i8", "f32"])
@pytest.mark.parametrize("noise", [0.0, 1e-6], ids=["equal", "all but equal"])
async def test_copies_of_a_vector_take_no_more_of_the_graph_than_one(
    precision: str, noise: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other precisions run other kernels of the CPU; that no copy is in the graph holds for all of them."""
    # Not above: imported before onnxruntime, which other tests import, it crashes the process.
    from usearch.index import Index

    monkeypatch.setattr("usearch.index.Index", lambda **settings: Index(**{**settings, "dtype": precision}))
    data, random = rows(2000), np.random.default_rng(7)
    store: Vectors[int] = Vectors(32)
    for number in range(1, 2000):
        store.add(data[number], number)
    await built(store)
    labels = [store.add(data[0], 0)]
    for turn in range(10_000):
        # Up to three live at a time.
        if turn % 3:
            store.remove(labels.pop(0))
        labels.append(store.add(data[0] + noise * random.standard_normal(32).astype(np.float32), 0))
        if len(labels) > 3:
            store.remove(labels.pop(1))
        if turn % 500 == 0:
            assert {item for _, item in await store.nearest(data[0], len(labels), 0.99)} == {0}
            assert len(await store.nearest(data[0], len(labels), 0.99)) == len(labels)
    assert store._graph is not None and store._building is None
    # Noise moves a number over the border between two codes now and then.
    assert len(store._graph) <= (2000 if not noise else 2010)
    for label in labels:
        store.remove(label)
    assert await store.nearest(data[0], 1, 0.99) == []
    store.add(data[0], 0)
    assert [item for _, item in await store.nearest(data[0], 1, 0.99)] == [0]


@pytest.mark.usefixtures("small")
async def test_many_removed_neighbours_hide_nothing_and_bring_a_new_graph() -> None:
    """More of them than the graph ever proposes, each a vector of its own, and fewer than half of what lives."""
    data, near = rows(4000), rows(1500, seed=5)
    copies = data[0] + 0.02 * near
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    store: Vectors[int] = Vectors(32)
    for number in range(1, 4000):
        store.add(data[number], number)
    await built(store)
    far = store.add(0.8 * data[0] + 0.6 * perpendicular(data[0], data[1]), 0)
    for label in [store.add(copy, -1) for copy in copies]:
        store.remove(label)
    old = store._graph
    assert old is not None and old.dead == 1500 and store._building is None
    assert [item for _, item in await store.nearest(data[0], 1, 0.75)] == [0]
    assert store._building is not None
    await built(store)
    assert store._graph is not old and store._graph is not None and store._graph.dead == 0
    assert [item for _, item in await store.nearest(data[0], 1, 0.75)] == [0]
    assert store._building is None and far in store._graph.labels


def perpendicular(to: Vector, other: Vector) -> Vector:
    """The unit vector at right angles to ``to`` on the side of ``other``."""
    rest = other - (other @ to) * to
    return np.asarray(rest / np.linalg.norm(rest), np.float32)


@pytest.mark.usefixtures("small")
async def test_what_comes_and_goes_while_a_graph_is_built_is_in_it_or_not() -> None:
    data = rows(6000)
    store: Vectors[int] = Vectors(32)
    labels = [store.add(data[number], number) for number in range(3000)]
    assert store._building is not None and store._graph is None
    number = 3000
    while store._building is not None:
        # Answers are exact all the while.
        assert (await store.nearest(data[number - 1], 1, 0.9))[0][1] == number - 1
        store.remove(labels.pop(0))
        labels.append(store.add(data[number], number))
        number += 1
        # The thread that builds must get its turn: one that never does would outlast the data.
        await asyncio.sleep(0.001)
    assert store._graph is not None
    assert store._graph.labels == set(labels)
    assert len(store._graph) - len(labels) == store._graph.dead
    assert number > 3001
    while len(store) > 100:
        store.remove(labels.pop())
    assert store._graph is None
    assert await store.nearest(data[number - len(labels) - 1], 1, -1.0)


@pytest.mark.usefixtures("small")
async def test_the_loop_goes_on_while_a_graph_is_built() -> None:
    store: Vectors[int] = Vectors(384)
    for number, row in enumerate(rows(4000, 384)):
        store.add(row, number)
    turns, longest = 0, 0.0
    while store._building is not None:
        started = time.perf_counter()
        await asyncio.sleep(0.001)
        turns, longest = turns + 1, max(longest, time.perf_counter() - started)
    # The build takes about a second; in one piece it would be one turn.
    assert turns > 50 and longest < 0.3


@pytest.mark.usefixtures("small")
async def test_churn_takes_no_more_memory() -> None:
    data = rows(2000, 384)

    async def churn(store: MemoryStore, start: int, count: int) -> None:
        for number in range(start, start + count):
            await store.put(entry(number, embedding=data[number % 2000]))
            if number % 20 == 0:
                await asyncio.sleep(0)
        for each in store._partitions.values():
            await built(each)

    store = MemoryStore(1000, clock=Clock())
    await churn(store, 0, 2000)
    gc.collect()
    before = resident()
    await churn(store, 2000, 6000)
    gc.collect()
    assert await store.size() == 1000
    # Six times what is held has passed, 9 MB of embeddings alone.
    assert resident() - before < 5.0
    await store.close()


def resident() -> float:
    """MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def test_a_large_cache_asks_for_its_library_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    MemoryStore(4096)
    with pytest.raises(RuntimeError, match=r"triton-router\[cache\]"):
        MemoryStore(4097)


async def test_counting_lets_others_run_while_it_drops_what_has_expired() -> None:
    clock = Clock()
    store = MemoryStore(4000, clock=clock)
    for number in range(4000):
        await store.put(entry(number, embedding=None))
    clock.now += 60
    counting = asyncio.create_task(store.size())
    turns = 0
    while not counting.done():
        turns += 1
        await asyncio.sleep(0)
    assert await counting == 0
    assert turns >= 4000 // memory.BATCH
    await store.close()


async def test_alike_ones_that_expired_together_take_few_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, searches, nearest = Clock(), 0, Vectors.nearest

    def counted(*arguments: Any) -> Any:
        nonlocal searches
        searches += 1
        return nearest(*arguments)

    monkeypatch.setattr(Vectors, "nearest", counted)
    store = MemoryStore(4000, clock=clock)
    for number in range(4000):
        await store.put(entry(number))
    clock.now += 60
    assert await store.nearest("aa", EAST, 4, 0.5) == []
    assert searches <= 100
    await store.close()


@pytest.mark.usefixtures("small")
async def test_a_look_at_all_vectors_lets_others_have_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dead neighbours hide what lives: all of it is looked at, a few blocks at a time."""
    data = rows(12 * vectors.BLOCK)
    store: Vectors[int] = Vectors(32)
    for number, vector in enumerate(data):
        store.add(vector, number)
    store.close()
    monkeypatch.setattr(Vectors, "_proposed", lambda *_: None)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    for number in (0, 5000, len(data) - 1):
        turns = 0
        best = await store.nearest(data[number], 4, -1.0)
        assert turns >= 12 // vectors.BLOCKS_AT_ONCE - 1
        assert best[0][1] == number
        assert [score for score, _ in best] == pytest.approx(sorted((data @ data[number]).tolist(), reverse=True)[:4])
    beside.cancel()


async def test_what_goes_while_vectors_are_looked_at_is_not_found() -> None:
    data = rows(8 * vectors.BLOCK)
    store: Vectors[int] = Vectors(32)
    labels = [store.add(vector, number) for number, vector in enumerate(data)]
    store.close()
    looking = asyncio.create_task(store.nearest(data[0], 1, 0.5))
    await asyncio.sleep(0)
    store.remove(labels[0])
    assert 0 not in [item for _, item in await looking]

"""What every store must do, asked of all three of them: memory, a real Redis, a real Milvus (Lite)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from servers import Server, Wire, milvus_server, redis_server

from triton_router.cache.entry import Entry, Store, Vector
from triton_router.cache.memory import MemoryStore
from triton_router.cache.milvus import MilvusStore
from triton_router.cache.redis import RedisStore
from triton_router.errors import Unavailable

DIMENSION = 8
# Room for a busy machine; what a deadline is worth is tested with a short one.
DEADLINE = 60.0
EAST, NORTH, UP = np.eye(DIMENSION, dtype=np.float32)[:3]
HERE, THERE = "aa" * 32, "bb" * 32


def at(cosine: float) -> Vector:
    """A unit vector with that cosine to EAST."""
    return (cosine * EAST + np.sqrt(1 - cosine**2) * NORTH).astype(np.float32)


def entry(number: int = 1, **changes: Any) -> Entry:
    fields: dict[str, Any] = {
        "key": f"{number:064x}",
        "partition": HERE,
        "decision": "science",
        "prompt": f"question {number}",
        "embedding": EAST,
        "answer": json.dumps({"text": f"answer {number}"}).encode(),
        "stored_at": time.time(),
        "ttl_seconds": 60.0,
    }
    return Entry(**{**fields, **changes})


def same(one: Entry | None, other: Entry) -> bool:
    if one is None:
        return False
    plain = [
        name for name in ("key", "partition", "decision", "prompt", "answer", "stored_at", "ttl_seconds")
        if getattr(one, name) != getattr(other, name)
    ]  # fmt: skip
    if one.embedding is None or other.embedding is None:
        return not plain and one.embedding is other.embedding
    return not plain and np.allclose(one.embedding, other.embedding, atol=1e-6)


async def until(question: Callable[[], Awaitable[bool]], seconds: float = 120.0) -> None:
    """Ask until it is so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if await question():
                return
        except Unavailable:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError(f"not so after {seconds} s")


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = redis_server(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def milvus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = milvus_server(tmp_path_factory.mktemp("milvus"))
    yield server
    server.kill()


@pytest.fixture(params=["memory", "redis", "milvus"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    made: Store
    match request.param:
        case "redis":
            server = request.getfixturevalue("redis")
            made = RedisStore(f"redis://127.0.0.1:{server.port}", DIMENSION, DEADLINE, prefix=f"test-{uuid4().hex}")
        case "milvus":
            server = request.getfixturevalue("milvus")
            made = MilvusStore(f"http://127.0.0.1:{server.port}", DIMENSION, DEADLINE, f"test_{uuid4().hex}")
        case _:
            made = MemoryStore(2000)
    yield made
    await made.close()


async def test_an_entry_comes_back_as_it_was_put(store: Store) -> None:
    stored = entry(embedding=at(0.3))
    assert await store.get(stored.key) is None
    await store.put(stored)
    assert same(await store.get(stored.key), stored)
    assert await store.get(f"{2:064x}") is None
    assert await store.size() == 1


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Wie heißt das? 你好 🦀",
        'a "quoted" \\ line\nand\r\nmore \x00 \x7f',
        "a lone surrogate \ud83d",
        "x" * 100_000,
    ],
)
async def test_any_text_survives(store: Store, prompt: str) -> None:
    answer = json.dumps({"text": prompt}, ensure_ascii="\ud83d" in prompt).encode()
    stored = entry(prompt=prompt, answer=answer, decision=f"d|{prompt[:50]},{{}}\"'")
    await store.put(stored)
    assert same(await store.get(stored.key), stored)
    [(_, nearest)] = await store.nearest(HERE, EAST, 4, 0.5)
    assert same(nearest, stored)
    assert await store.purge(decision=stored.decision) == 1


async def test_bytes_that_are_no_text_survive(store: Store) -> None:
    stored = entry(answer=bytes(range(256)) * 300)
    await store.put(stored)
    assert same(await store.get(stored.key), stored)


async def test_nearest_first_and_none_below_the_threshold(store: Store) -> None:
    for number, cosine in enumerate((0.7, 0.99, 0.9, 0.95)):
        await store.put(entry(number, embedding=at(cosine)))
    nearest = await store.nearest(HERE, EAST, 4, 0.85)
    assert [each.key for _, each in nearest] == [f"{number:064x}" for number in (1, 3, 2)]
    assert [cosine for cosine, _ in nearest] == pytest.approx([0.99, 0.95, 0.9], abs=1e-4)
    assert [each.key for _, each in await store.nearest(HERE, EAST, 1, 0.5)] == [f"{1:064x}"]
    assert await store.nearest(HERE, UP, 4, 0.5) == []


async def test_partitions_never_mix(store: Store) -> None:
    await store.put(entry(1, partition=HERE, embedding=at(0.9)))
    for number in range(2, 30):
        await store.put(entry(number, partition=THERE))
    assert [each.key for _, each in await store.nearest(HERE, EAST, 10, 0.1)] == [f"{1:064x}"]
    assert {each.partition for _, each in await store.nearest(THERE, EAST, 50, 0.1)} == {THERE}
    assert await store.nearest("cc" * 32, EAST, 10, -1.0) == []


async def test_an_entry_without_embedding_is_for_the_same_request_only(store: Store) -> None:
    stored = entry(embedding=None)
    await store.put(stored)
    assert same(await store.get(stored.key), stored)
    assert await store.nearest(HERE, EAST, 4, -1.0) == []
    assert await store.size() == 1


async def test_nothing_is_given_out_after_its_time(store: Store) -> None:
    short, long = entry(1, ttl_seconds=1.5), entry(2, embedding=at(0.9))
    await store.put(short)
    await store.put(long)
    assert same(await store.get(short.key), short) or time.time() >= short.expires_at
    while time.time() < short.expires_at + 0.001:
        # Up to the last moment; past it, never.
        item, now = await store.get(short.key), time.time()
        assert item is not None or now >= short.expires_at
        await asyncio.sleep(0.05)
    assert await store.get(short.key) is None
    assert [each.key for _, each in await store.nearest(HERE, EAST, 4, 0.1)] == [long.key]

    async def forgotten() -> bool:
        return await store.size() == 1

    await until(forgotten)


async def test_what_has_expired_is_not_kept_at_all(store: Store) -> None:
    await store.put(entry(1))
    await store.put(entry(1, stored_at=time.time() - 100, ttl_seconds=60.0))
    assert await store.get(f"{1:064x}") is None
    assert await store.nearest(HERE, EAST, 4, 0.1) == []


async def test_a_key_holds_the_last_entry(store: Store) -> None:
    await store.put(entry(1))
    last = entry(1, embedding=NORTH, partition=THERE, answer=b"{}", prompt="another")
    await store.put(last)
    assert same(await store.get(last.key), last)
    assert await store.nearest(HERE, EAST, 4, 0.1) == []
    assert [each.key for _, each in await store.nearest(THERE, NORTH, 4, 0.1)] == [last.key]
    assert await store.size() == 1
    bare = entry(1, embedding=None)
    await store.put(bare)
    assert same(await store.get(last.key), bare)
    assert await store.nearest(THERE, NORTH, 4, 0.1) == []


async def test_purge_by_key_by_decision_and_of_all(store: Store) -> None:
    for number in range(6):
        await store.put(entry(number, decision="law, {tax} @2|x" if number % 2 else "science"))
    assert await store.purge(key=f"{0:064x}") == 1
    assert await store.purge(key=f"{0:064x}") == 0
    assert await store.purge(key=f"{1:064x}", decision="science") == 0
    assert await store.purge(decision="law, {tax} @2|x") == 3
    assert await store.purge(decision="law") == 0
    assert {each.key for _, each in await store.nearest(HERE, EAST, 9, 0.5)} == {f"{n:064x}" for n in (2, 4)}
    assert await store.purge() == 2
    assert await store.size() == 0
    assert await store.get(f"{2:064x}") is None
    await store.put(entry(2))
    assert await store.size() == 1


@pytest.mark.parametrize("key", ["FAQ", "", 'a" or key != "'])
async def test_whoever_purges_may_write_any_key(store: Store, key: str) -> None:
    await store.put(entry(1))
    assert await store.purge(key=key) == 0
    assert await store.size() == 1


async def test_a_thousand_entries(store: Store) -> None:
    random = np.random.default_rng(7)
    rows = random.standard_normal((1000, DIMENSION)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    whose = [HERE if number % 2 else THERE for number in range(1000)]
    for start in range(0, 1000, 20):
        numbers = range(start, start + 20)
        await asyncio.gather(*(store.put(entry(n, embedding=rows[n], partition=whose[n])) for n in numbers))
    assert await store.size() == 1000
    for number in range(0, 1000, 50):
        assert same(await store.get(f"{number:064x}"), entry(number)) is False
        nearest = await store.nearest(whose[number], rows[number], 4, 0.5)
        assert nearest[0][1].key == f"{number:064x}" and nearest[0][0] == pytest.approx(1.0, abs=1e-4)
        assert all(each.partition == whose[number] for _, each in nearest)
        cosines = sorted(
            (float(rows[n] @ rows[number]) for n in range(1000) if whose[n] == whose[number]), reverse=True
        )
        assert [cosine for cosine, _ in nearest] == pytest.approx([c for c in cosines[:4] if c >= 0.5], abs=1e-3)
    assert await store.purge() == 1000
    assert await store.size() == 0


@pytest.fixture
async def own_redis(tmp_path: Path) -> AsyncIterator[tuple[Server, RedisStore]]:
    server = redis_server(tmp_path)
    store = RedisStore(f"redis://127.0.0.1:{server.port}", DIMENSION, 0.3)
    yield server, store
    await store.close()
    server.kill()


async def refused(store: Store, *reasons: str) -> None:
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: store.get(f"{1:064x}"),
        lambda: store.nearest(HERE, EAST, 4, 0.5),
        lambda: store.put(entry(1)),
        lambda: store.purge(),
        lambda: store.size(),
    ]
    for call in calls:
        with pytest.raises(Unavailable) as refusal:
            async with asyncio.timeout(30):
                await call()
        assert refusal.value.reason in reasons


async def nearest_keys(store: Store) -> bool:
    await store.put(entry(1))
    return len(await store.nearest(HERE, EAST, 4, 0.5)) == 1


async def test_redis_killed_and_started_again(own_redis: tuple[Server, RedisStore]) -> None:
    server, store = own_redis

    async def empty() -> bool:
        return await store.nearest(HERE, EAST, 4, 0.5) == []

    await until(lambda: nearest_keys(store))
    server.kill()
    await refused(store, "connection", "deadline")
    server.start()
    await until(lambda: nearest_keys(store))
    # Empty again behind our back, and nothing noticed between: the index is made anew.
    server.kill()
    server.start()
    await until(empty)
    await until(lambda: nearest_keys(store))


async def test_redis_that_does_not_answer(own_redis: tuple[Server, RedisStore]) -> None:
    server, store = own_redis
    await until(lambda: nearest_keys(store))
    await store.put(entry(2, prompt="two", partition=THERE))
    server.hold()
    await refused(store, "deadline", "connection")
    server.go_on()
    await until(lambda: nearest_keys(store))
    # Late replies to calls that were given up must not be taken for others'.
    prompts: list[str] = []
    async with asyncio.timeout(120):
        while len(prompts) < 20:
            with contextlib.suppress(Unavailable):
                await store.put(entry(3))
                prompts.append((await store.get(f"{3:064x}") or entry()).prompt)
    assert set(prompts) == {"question 3"}


async def test_a_purge_of_redis_goes_past_what_has_expired_and_is_not_swept(tmp_path: Path) -> None:
    server = redis_server(tmp_path, "--enable-debug-command", "yes")
    store = RedisStore(f"redis://127.0.0.1:{server.port}", DIMENSION, DEADLINE)
    try:
        await store._client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        for start in range(0, 1200, 100):
            numbers = range(start, start + 100)
            await asyncio.gather(*(store.put(entry(n, embedding=None, ttl_seconds=3.0)) for n in numbers))
        await asyncio.sleep(3.1)
        await store.put(entry(5000))
        assert await store.purge() == 1
        assert await store.get(f"{5000:064x}") is None
    finally:
        await store.close()
        server.kill()


async def test_redis_without_vector_search_says_so(tmp_path: Path) -> None:
    server = redis_server(tmp_path, search=False)
    store = RedisStore(f"redis://127.0.0.1:{server.port}", DIMENSION, DEADLINE)
    try:
        with pytest.raises(Unavailable, match="no search module") as refusal:
            await store.open()
        assert refusal.value.reason == "unsupported"
    finally:
        await store.close()
        server.kill()


async def test_redis_that_wants_a_password(tmp_path: Path) -> None:
    server = redis_server(tmp_path, "--requirepass", "sesame")
    url = f"redis://127.0.0.1:{server.port}"
    for password, reason in ((None, "refused"), ("guessed", "refused"), ("sesame", None)):
        store = RedisStore(url, DIMENSION, DEADLINE, password=password)
        if reason is None:
            assert await nearest_keys(store)
        else:
            await refused(store, reason)
        await store.close()
    server.kill()


async def test_redis_without_room(tmp_path: Path) -> None:
    server = redis_server(tmp_path, "--maxmemory", "16mb", "--maxmemory-policy", "noeviction")
    store = RedisStore(f"redis://127.0.0.1:{server.port}", DIMENSION, DEADLINE)
    with pytest.raises(Unavailable) as refusal:
        for number in range(100):
            await store.put(entry(number, answer=b"x" * 1_000_000))
    assert refusal.value.reason == "full"
    assert await store.get(f"{0:064x}") is not None
    await store.close()
    server.kill()


async def test_milvus_cut_off_and_back(milvus: Server) -> None:
    wire = Wire(milvus.port)
    store = MilvusStore(f"http://127.0.0.1:{wire.port}", DIMENSION, 0.5, f"test_{uuid4().hex}")
    try:
        await refused(store, "connection", "deadline")
        await wire.join()
        await until(lambda: nearest_keys(store))
        await wire.cut()
        await refused(store, "connection", "deadline")
        await wire.join()
        await until(lambda: nearest_keys(store))
        wire.hold()
        await refused(store, "deadline")
        wire.go_on()
        await until(lambda: nearest_keys(store))
        await wire.cut()
    finally:
        await store.close()


async def test_milvus_closed_under_a_call(milvus: Server) -> None:
    wire = Wire(milvus.port)
    await wire.join()
    store = MilvusStore(f"http://127.0.0.1:{wire.port}", DIMENSION, 30.0)
    await until(lambda: nearest_keys(store))
    wire.hold()
    call = asyncio.create_task(store.get(f"{1:064x}"))
    await asyncio.sleep(0.2)
    await store.close()
    with pytest.raises(Unavailable) as refusal:
        await call
    assert refusal.value.reason == "connection"
    await wire.cut()


async def test_milvus_started_again(tmp_path: Path) -> None:
    server = milvus_server(tmp_path)
    store = MilvusStore(f"http://127.0.0.1:{server.port}", DIMENSION, 0.5)
    try:
        await until(lambda: nearest_keys(store))
        server.kill()
        await refused(store, "connection", "deadline")
        server.start()
        await until(lambda: nearest_keys(store))
    finally:
        await store.close()
        server.kill()

"""A store in Milvus: one collection for each dimension of embeddings.

What takes seconds (connecting, making and loading the collection) is done beside requests, by the client that waits in
a thread; requests go over the asyncio client, which cannot make an index on every server. A request that comes before
that is done waits no longer than its deadline.

How much is held is bounded by time to live alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np

from triton_router.cache.entry import Entry, Vector, decision_digest
from triton_router.errors import Unavailable

# Connecting, and each step of making the collection.
OPEN_SECONDS = 10.0
# Between tries to connect, and between removals of what has expired.
RETRY_SECONDS, SWEEP_SECONDS = 1.0, 60.0
# Milvus' limits of a string in bytes and of an array; a character of ours takes two bytes at most.
STRING, PIECES = 65_535, 1024
PIECE = STRING // 2
FIELDS = ["key", "partition", "decision_name", "prompt", "embedding", "answer", "stored_at", "ttl_seconds"]
SEARCH = {"metric_type": "IP", "params": {"ef": 64}}


class MilvusStore:
    """Entries with embeddings of ``dimension`` in the server at ``uri`` (``http://`` or ``https://``).

    Every call ends within ``deadline_seconds``. What this process wrote it finds at once; what others wrote, as the
    collection's consistency allows. Raises RuntimeError if the package ``pymilvus`` is not installed.

    It has 19 methods: the six of every store, and a short one for each call of the client.
    """

    def __init__(
        self,
        uri: str,
        dimension: int,
        deadline_seconds: float = 0.1,
        collection: str = "triton_router_cache",
        token: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._pymilvus = _pymilvus()
        self._uri, self._token, self._dimension = uri, token, dimension
        self._deadline, self._clock = deadline_seconds, clock
        self._collection = f"{collection}_{dimension}"
        self._client: Any = None
        self._opening: asyncio.Task[None] | None = None
        self._next_try = self._next_sweep = 0.0
        self._background: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect, and make the collection if it is missing. Takes seconds; raises Unavailable."""
        async with self._translated():
            await asyncio.shield(self._start_opening())

    async def get(self, key: str) -> Entry | None:
        rows = await self._ask("query", filter=f"key == {_hex(key)}", output_fields=FIELDS)
        return self._entry(rows[0]) if rows else None

    async def nearest(self, partition: str, embedding: Vector, limit: int, least: float) -> list[tuple[float, Entry]]:
        hits = await self._ask(
            "search",
            data=[embedding],
            filter=f"partition == {_hex(partition)} and expires_at > {self._clock()!r}",
            limit=limit,
            output_fields=FIELDS,
            search_params=SEARCH,
        )
        near = ((float(hit["distance"]), self._entry(hit["entity"])) for hit in hits[0])
        return [(cosine, entry) for cosine, entry in near if entry and entry.embedding is not None and cosine >= least]

    async def put(self, entry: Entry) -> None:
        for name in (entry.key, entry.partition):
            _hex(name)
        row = {
            "key": entry.key,
            "partition": entry.partition,
            "decision": decision_digest(entry.decision),
            "decision_name": _pieces(_bytes(entry.decision)),
            "prompt": _pieces(_bytes(entry.prompt)),
            # A vector is not optional everywhere; nothing is near this one.
            "embedding": np.zeros(self._dimension, np.float32) if entry.embedding is None else entry.embedding,
            "answer": _pieces(entry.answer),
            "stored_at": entry.stored_at,
            "ttl_seconds": entry.ttl_seconds,
            "expires_at": entry.expires_at,
        }
        await self._ask("upsert", data=[row])
        if self._clock() >= self._next_sweep:
            self._next_sweep = self._clock() + SWEEP_SECONDS
            self._beside(self._sweep())

    async def purge(self, *, key: str | None = None, decision: str | None = None) -> int:
        if key is not None and not _is_hex(key):
            # Whoever purges may write anything, and no entry has such a key.
            return 0
        conditions = [f"key == {_hex(key)}"] if key is not None else []
        if decision is not None:
            conditions.append(f'decision == "{decision_digest(decision)}"')
        which = " and ".join(conditions) or 'key != ""'
        count = await self._count(f"({which}) and expires_at > {self._clock()!r}")
        await self._ask("delete", filter=which)
        return count

    async def size(self) -> int:
        return await self._count(f"expires_at > {self._clock()!r}")

    async def close(self) -> None:
        tasks = [*self._background, *([self._opening] if self._opening else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        client, self._client = self._client, None
        await self._let_go(client)

    async def _count(self, which: str) -> int:
        rows = await self._ask("query", filter=which, output_fields=["count(*)"])
        return int(rows[0]["count(*)"])

    async def _sweep(self) -> None:
        # What fails now is done by the next.
        with suppress(Unavailable):
            await self._ask("delete", filter=f"expires_at <= {self._clock()!r}")

    def _entry(self, row: dict[str, Any]) -> Entry | None:
        embedding = np.array(row["embedding"], np.float32)
        entry = Entry(
            key=row["key"],
            partition=row["partition"],
            decision=_joined(row["decision_name"]).decode("utf-8", "surrogatepass"),
            prompt=_joined(row["prompt"]).decode("utf-8", "surrogatepass"),
            embedding=embedding if embedding.any() else None,
            answer=_joined(row["answer"]),
            stored_at=row["stored_at"],
            ttl_seconds=row["ttl_seconds"],
        )
        return None if entry.expired(self._clock()) else entry

    async def _ask(self, method: str, **arguments: Any) -> Any:
        async with self._translated(), asyncio.timeout(self._deadline):
            client = await self._connected()
            try:
                # The client's own retries would outlast any deadline.
                return await getattr(client, method)(self._collection, retry_times=0, **arguments)
            except self._pymilvus.MilvusException as error:
                if _lost(error) and self._client is client:
                    self._client = None
                    self._beside(self._let_go(client))
                raise

    async def _connected(self) -> Any:
        if self._client is None:
            opening = self._opening
            if opening is None:
                if time.monotonic() < self._next_try:
                    raise Unavailable("connection", "Milvus could not be reached a moment ago")
                opening = self._start_opening()
            await asyncio.shield(opening)
        return self._client

    def _start_opening(self) -> asyncio.Task[None]:
        if self._opening is None:
            self._opening = asyncio.get_running_loop().create_task(self._open())
            # Whoever waited may have gone: then nobody else looks at what went wrong.
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._opening

    async def _open(self) -> None:
        try:
            await asyncio.to_thread(self._make_collection)
            self._client = self._pymilvus.AsyncMilvusClient(
                self._uri, token=self._token, timeout=OPEN_SECONDS, dedicated=True
            )
            # Connects and learns the schema, which the first request has no time for.
            await self._client.describe_collection(self._collection, retry_times=0)
        except BaseException:
            self._next_try = time.monotonic() + RETRY_SECONDS
            client, self._client = self._client, None
            await self._let_go(client)
            raise
        finally:
            self._opening = None

    def _make_collection(self) -> None:
        types = self._pymilvus.DataType
        client = self._pymilvus.MilvusClient(self._uri, token=self._token, timeout=OPEN_SECONDS, dedicated=True)
        try:
            if not client.has_collection(self._collection, timeout=OPEN_SECONDS):
                schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
                schema.add_field("key", types.VARCHAR, is_primary=True, max_length=256)
                schema.add_field("partition", types.VARCHAR, is_partition_key=True, max_length=256)
                schema.add_field("decision", types.VARCHAR, max_length=64)
                for name in ("decision_name", "prompt", "answer"):
                    schema.add_field(
                        name, types.ARRAY, element_type=types.VARCHAR, max_length=STRING, max_capacity=PIECES
                    )
                for name in ("stored_at", "ttl_seconds", "expires_at"):
                    schema.add_field(name, types.DOUBLE)
                schema.add_field("embedding", types.FLOAT_VECTOR, dim=self._dimension)
                index = client.prepare_index_params()
                index.add_index(
                    "embedding", index_type="HNSW", metric_type="IP", params={"M": 16, "efConstruction": 128}
                )
                client.create_collection(
                    self._collection,
                    schema=schema,
                    index_params=index,
                    consistency_level="Session",
                    timeout=OPEN_SECONDS,
                )
            client.load_collection(self._collection, timeout=OPEN_SECONDS)
        finally:
            client.close()

    def _beside(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _let_go(self, client: Any) -> None:
        if client is not None:
            with suppress(Exception):
                await client.close()

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        """Turns all that can go wrong with a server into Unavailable."""
        try:
            yield
        except TimeoutError as error:
            raise Unavailable("deadline", "Milvus did not answer in time") from error
        except self._pymilvus.MilvusException as error:
            if _lost(error):
                raise Unavailable("connection", str(error)) from error
            refused = any(word in str(error).lower() for word in ("unauthenticated", "permission", "auth check"))
            raise Unavailable("refused" if refused else "error", str(error)) from error
        except OSError as error:
            raise Unavailable("connection", str(error)) from error
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Another call found the connection lost, and the client was closed under this one.
            raise Unavailable("connection", "the client was closed") from error


def _lost(error: Exception) -> bool:
    """Whether the connection is at fault: the code is the client's own, or one of gRPC's in words."""
    message = str(error)
    return "Fail connecting" in message or "UNAVAILABLE" in message or "should create connection first" in message


def _hex(text: str) -> str:
    """``text`` as a literal of an expression. Raises ValueError if it is more than hex digits."""
    if not _is_hex(text):
        raise ValueError("a key that is not hexadecimal")
    return f'"{text}"'


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _pieces(data: bytes) -> list[str]:
    """Any bytes as strings that fit: Latin-1 gives every byte a character, and JSON in ASCII stays legible."""
    return [data[start : start + PIECE].decode("latin-1") for start in range(0, len(data), PIECE)]


def _joined(pieces: list[str]) -> bytes:
    return "".join(pieces).encode("latin-1")


def _pymilvus() -> Any:
    try:
        import pymilvus
    except ImportError as error:
        raise RuntimeError('a cache in Milvus needs pymilvus: pip install "triton-router[milvus]"') from error
    # It logs a traceback for every call that fails; callers are told, and count.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return pymilvus

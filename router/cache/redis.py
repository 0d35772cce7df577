"""A store in Redis 8 (or Redis Stack): hashes that expire, and a vector index over them.

An entry is a hash under ``PREFIX:DIMENSION:KEY``, which Redis forgets by itself; the index over these hashes has the
partition as a tag. Vector sets are no way out for a server without the search module: their elements do not expire and
carry no bodies, so entries would lie in two places that nothing keeps together.

How much is held is Redis' own business: set ``maxmemory`` and a ``volatile-*`` policy there.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from triton_router.cache.entry import Entry, Vector, decision_digest
from triton_router.errors import Unavailable
from triton_router.redis_client import RedisClient

# Entries removed at once by a purge.
BATCH = 1000
FIELDS = ("partition", "decision_name", "prompt", "embedding", "answer", "stored_at", "ttl_seconds")


class RedisStore:
    """Entries with embeddings of ``dimension`` in the server at ``url`` (``redis://`` or ``rediss://``).

    Every call ends within ``deadline_seconds``, one of `purge` after each batch. Raises RuntimeError if the package
    ``redis`` is not installed. Nothing is asked of the server before the first call.
    """

    def __init__(
        self,
        url: str,
        dimension: int,
        deadline_seconds: float = 0.05,
        prefix: str = "triton-router:cache",
        username: str | None = None,
        password: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._server = RedisClient(url, deadline_seconds, username, password)
        self._errors, self._client = self._server.errors, self._server.client
        self._dimension, self._deadline, self._clock = dimension, deadline_seconds, clock
        # Another dimension is another embedder: entries of both may live side by side.
        self._prefix, self._index = f"{prefix}:{dimension}:", f"{prefix}:{dimension}"
        self._indexed = False

    async def open(self) -> None:
        """Make the index now instead of at the first call. Raises Unavailable, which says what is missing."""
        async with self._within_deadline():
            await self._make_index()

    async def get(self, key: str) -> Entry | None:
        async with self._within_deadline():
            values = await self._client.hmget(self._prefix + key, FIELDS)
        return self._entry(key, dict(zip(FIELDS, values, strict=True)))

    async def nearest(self, partition: str, embedding: Vector, limit: int, least: float) -> list[tuple[float, Entry]]:
        # Hashes that expired a moment ago are still found, without fields: ask for more than is wanted.
        query = f"(@partition:{{$partition}})=>[KNN {2 * limit} @embedding $embedding AS distance]"
        matches = await self._search(
            query, "PARAMS", 4, "partition", partition, "embedding", embedding.astype("<f4").tobytes(),
            "SORTBY", "distance", "RETURN", len(FIELDS) + 1, "distance", *FIELDS, "LIMIT", 0, 2 * limit,
        )  # fmt: skip
        near: list[tuple[float, Entry]] = []
        for name, flat in zip(matches[1::2], matches[2::2], strict=True):
            if flat is None:
                continue
            fields = {field.decode(): value for field, value in zip(flat[::2], flat[1::2], strict=True)}
            entry = self._entry(name.decode().removeprefix(self._prefix), fields)
            if entry is not None and (cosine := 1.0 - float(fields["distance"])) >= least:
                near.append((cosine, entry))
        return near[:limit]

    async def put(self, entry: Entry) -> None:
        name = self._prefix + entry.key
        fields: dict[str, bytes | str] = {
            "partition": entry.partition,
            "decision": decision_digest(entry.decision),
            "prompt": entry.prompt.encode("utf-8", "surrogatepass"),
            "answer": entry.answer,
            "stored_at": repr(entry.stored_at),
            "ttl_seconds": repr(entry.ttl_seconds),
            "decision_name": entry.decision.encode("utf-8", "surrogatepass"),
        }
        if entry.embedding is not None:
            fields["embedding"] = entry.embedding.astype("<f4").tobytes()
        async with self._within_deadline(), self._client.pipeline(transaction=True) as pipeline:
            await self._make_index()
            pipeline.delete(name)
            pipeline.hset(name, mapping=fields)
            pipeline.pexpireat(name, int(entry.expires_at * 1000))
            await pipeline.execute()

    async def purge(self, *, key: str | None = None, decision: str | None = None) -> int:
        if key is not None:
            return await self._purge_key(key, decision)
        query = (
            ["*"] if decision is None else ["@decision:{$decision}", "PARAMS", 2, "decision", decision_digest(decision)]
        )
        count, before = 0, None
        # What expired and is not swept yet stands in the index too, until it is asked for. Found again it never leaves.
        while (names := (await self._search(*query, "NOCONTENT", "LIMIT", 0, BATCH))[1:]) and names != before:
            async with self._within_deadline():
                count += await self._client.unlink(*names)
            before = names
        return count

    async def size(self) -> int:
        return int((await self._search("*", "LIMIT", 0, 0))[0])

    async def close(self) -> None:
        await self._server.close()

    async def _purge_key(self, key: str, decision: str | None) -> int:
        async with self._within_deadline():
            name = self._prefix + key
            if decision is not None and await self._client.hget(name, "decision") != decision_digest(decision).encode():
                return 0
            return int(await self._client.unlink(name))

    def _entry(self, key: str, fields: dict[str, Any]) -> Entry | None:
        """``None`` for one that is gone or not of our making."""
        if fields["stored_at"] is None:
            return None
        entry = Entry(
            key=key,
            partition=fields["partition"].decode(),
            decision=fields["decision_name"].decode("utf-8", "surrogatepass"),
            prompt=fields["prompt"].decode("utf-8", "surrogatepass"),
            embedding=np.frombuffer(fields["embedding"], "<f4") if fields.get("embedding") else None,
            answer=fields["answer"],
            stored_at=float(fields["stored_at"]),
            ttl_seconds=float(fields["ttl_seconds"]),
        )
        return None if entry.expired(self._clock()) else entry

    async def _search(self, *arguments: Any) -> list[Any]:
        """What FT.SEARCH says: a count, then names, each followed by its fields if those were asked for."""
        command = ("FT.SEARCH", self._index, *arguments, "TIMEOUT", max(int(self._deadline * 1000), 1), "DIALECT", 2)
        async with self._within_deadline():
            await self._make_index()
            try:
                reply: list[Any] = await self._client.execute_command(*command)
            except self._errors.ResponseError as error:
                if not _no_index(error):
                    raise
                # The server came back empty, or somebody dropped it.
                self._indexed = False
                await self._make_index()
                reply = await self._client.execute_command(*command)
        return reply

    async def _make_index(self) -> None:
        if self._indexed:
            return
        vector = ("TYPE", "FLOAT32", "DIM", self._dimension, "DISTANCE_METRIC", "COSINE", "M", 16,
                  "EF_CONSTRUCTION", 128, "EF_RUNTIME", 64)  # fmt: skip
        try:
            await self._client.execute_command(
                "FT.CREATE", self._index, "ON", "HASH", "PREFIX", 1, self._prefix, "SCHEMA",
                "partition", "TAG", "CASESENSITIVE", "decision", "TAG", "CASESENSITIVE",
                "embedding", "VECTOR", "HNSW", len(vector), *vector,
            )  # fmt: skip
        except self._errors.ResponseError as error:
            if "already exists" not in str(error).lower():
                raise
        self._indexed = True

    @asynccontextmanager
    async def _within_deadline(self) -> AsyncIterator[None]:
        try:
            async with self._server.within_deadline():
                yield
        except Unavailable as unavailable:
            if unavailable.reason == "connection":
                # What comes back may have lost the index.
                self._indexed = False
            raise


def _no_index(error: Exception) -> bool:
    message = str(error).lower()
    return "index" in message and any(words in message for words in ("no such", "unknown", "not found"))

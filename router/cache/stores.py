"""The store that the settings ask for."""

from __future__ import annotations

from triton_router.cache.entry import Store
from triton_router.cache.memory import MemoryStore
from triton_router.config.services import CacheSettings


def open_store(settings: CacheSettings, dimension: int) -> Store:
    """A store for embeddings of ``dimension``; a server is asked when it is first needed.

    Raises:
        RuntimeError: a package is not installed.
    """
    match settings.backend_type:
        case "redis":
            from triton_router.cache.redis import RedisStore

            own = settings.redis
            password = own.password.get_secret_value() if own.password else None
            return RedisStore(own.url, dimension, own.deadline_ms / 1000, own.prefix, own.username, password)
        case "milvus":
            from triton_router.cache.milvus import MilvusStore

            other = settings.milvus
            token = other.token.get_secret_value() if other.token else ""
            return MilvusStore(other.uri, dimension, other.deadline_ms / 1000, other.collection, token)
    return MemoryStore(settings.max_entries, settings.eviction_policy)

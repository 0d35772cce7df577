"""Settings of the semantic cache and its stores."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, SecretStr, StringConstraints

from triton_router.config.section import Address, CacheScope, Milliseconds, Name, Probability, Section


class RedisSettings(Section):
    """Redis 8 (or Redis Stack) with vector search, shared by all replicas."""

    NOT_ACTIVE = frozenset({"connection", "index", "search", "development", "logging"})

    url: Annotated[Address, StringConstraints(pattern=r"^(rediss?|unix)://")] = Field(
        "redis://127.0.0.1:6379", description="`redis://`, `rediss://` or `unix://` address."
    )
    username: Name | None = Field(None, description="User name.")
    password: SecretStr | None = Field(None, description="Password; name a variable: `${REDIS_PASSWORD}`.")
    prefix: Name = Field("triton-router:cache", description="Prefix of the keys.")
    deadline_ms: Milliseconds = Field(50, description="Timeout of one call. A call that exceeds it is a miss.")


class MilvusSettings(Section):
    """Milvus, shared by all replicas."""

    NOT_ACTIVE = frozenset({"connection", "search", "development", "logging", "performance", "data_management"})

    uri: Address = Field("http://127.0.0.1:19530", description="Address of the server.")
    token: SecretStr | None = Field(None, description="`user:password` or a key; name a variable: `${MILVUS_TOKEN}`.")
    collection: Name = Field("triton_router_cache", description="Collection; created if missing.")
    deadline_ms: Milliseconds = Field(100, description="Timeout of one call. A call that exceeds it is a miss.")


class CacheSettings(Section):
    """The semantic cache. It applies only to decisions with the plugin."""

    # Some are of before v0.3, and files still have them.
    NOT_ACTIVE = frozenset({"valkey", "qdrant", "polarity_guard", "hybrid", "max_memory_entries", "use_hnsw", "hnsw_m",
                            "hnsw_ef_construction", "hnsw_ef_search", "backend_config_path"})  # fmt: skip
    INSTEAD: ClassVar[dict[str, str]] = {"polarity_guard": "negated questions are always told apart"}

    enabled: bool = Field(True, description="Use it.")
    embedding_model: Name | None = Field(
        None,
        description="Model of the signal bundle whose embedding the cache and all embedding rules use, by its name "
        "or the published model's id. Default, also for an unknown name: the first embedder.",
    )
    backend_type: Literal["memory", "redis", "milvus"] = Field(
        "memory", description="Location of the entries: each worker's memory, or a server that all replicas share."
    )
    redis: RedisSettings = Field(default_factory=RedisSettings, description="For `backend_type: redis`.")
    milvus: MilvusSettings = Field(default_factory=MilvusSettings, description="For `backend_type: milvus`.")
    secret: SecretStr | None = Field(
        None,
        description="Key of the HMAC that identifies callers by their credential. Replicas that share a store need "
        "the same key. Default: a random key per process.",
    )
    similarity_threshold: Probability = Field(0.9, description="Least cosine of two questions that share a response.")
    ttl_seconds: float = Field(3600, gt=0, description="Lifetime of an entry, in seconds.")
    max_entries: int = Field(1000, ge=1, le=1_000_000, description="Largest number of entries in memory.")
    eviction_policy: Literal["fifo", "lru", "lfu"] = Field(
        "fifo", description="Rule that selects the entry to evict from memory."
    )
    scope: CacheScope = Field(
        "user",
        description="Callers that share responses. `user`: none; `tenant`: those of one trusted tenant; `global`: all.",
    )
    anonymous: bool = Field(True, description="Let callers without a credential share one scope.")
    coalesce_ms: int = Field(
        0,
        ge=0,
        le=60_000,
        description="Longest wait of a non-streaming request for an identical request in flight, in the same worker "
        "and scope. 0: each goes to the backend.",
    )


class Stores(Section):
    NOT_ACTIVE = frozenset({"memory", "vector_store"})

    semantic_cache: CacheSettings = Field(default_factory=CacheSettings, description="The cache of responses.")

"""A Redis server whose every call ends in time: with its answer, or :class:`.errors.Unavailable`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from triton_router.errors import Unavailable

# Connections of one worker; further calls wait for one within their deadline.
CONNECTIONS = 32


class RedisClient:
    """``client`` is that of the package ``redis``, which has not connected yet; ``errors`` its module of exceptions.

    Raises:
        RuntimeError: the package is not installed.
    """

    def __init__(self, url: str, deadline_seconds: float, username: str | None, password: str | None) -> None:
        self.errors, self.client = _connect(url, deadline_seconds, username, password)
        self._deadline = deadline_seconds

    @asynccontextmanager
    async def within_deadline(self) -> AsyncIterator[None]:
        """Turns all that can go wrong with a server into Unavailable: with reason `connection`, what comes back may
        have lost all that it held."""
        errors = self.errors
        try:
            async with asyncio.timeout(self._deadline):
                yield
        except (TimeoutError, errors.TimeoutError) as error:
            raise Unavailable("deadline", "Redis did not answer in time") from error
        except (errors.AuthenticationError, errors.AuthorizationError, errors.NoPermissionError) as error:
            raise Unavailable("refused", str(error)) from error
        except (errors.ConnectionError, OSError) as error:
            raise Unavailable("connection", str(error)) from error
        except errors.RedisError as error:
            raise Unavailable(*_reason(str(error))) from error

    async def close(self) -> None:
        await self.client.aclose()


def _reason(message: str) -> tuple[str, str]:
    if "unknown command" in message and "FT." in message:
        return "unsupported", "this Redis has no search module: use Redis 8, Redis Stack, or load redisearch"
    if "command not allowed when used memory" in message:
        return "full", message
    if message.startswith(("READONLY", "NOAUTH", "NOPERM")) or "read only replica" in message:
        return "refused", message
    return "error", message


def _connect(url: str, deadline: float, username: str | None, password: str | None) -> tuple[Any, Any]:
    try:
        from redis import exceptions
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise RuntimeError('Redis needs the redis package: pip install "triton-router[redis]"') from error
    credentials = {name: value for name, value in (("username", username), ("password", password)) if value is not None}
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS,
        timeout=deadline,
        socket_timeout=deadline,
        socket_connect_timeout=deadline,
        # Once: connections that lay idle while the server was restarted.
        retry=Retry(NoBackoff(), 1),
        protocol=2,
        **credentials,
    )
    return exceptions, Redis.from_pool(pool)

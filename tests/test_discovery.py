"""Which adapters backends have loaded, where some of the backends are hostile or broken."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from triton_router.config import Config
from triton_router.discovery import Discovery
from triton_router.selection import LoadedAdapters
from triton_router.telemetry import Metrics

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


def body(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(data) + data)

    return answer


def listing(name: str, parent: object) -> bytes:
    return json.dumps({"data": [{"id": name}, {"id": f"{name}-adapter", "parent": parent}]}).encode()


async def drips(writer: asyncio.StreamWriter) -> None:
    """Each byte comes in time for the next read, and they never end."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def drips_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def says_nothing(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(600)


HOSTILE: dict[str, Answer] = {
    "a parent that is no text": body(listing("base", {})),
    "brackets": body(b"[" * 100_000),
    "half a surrogate pair": body(b'{"data": [{"id": "base"}, {"id": "\\ud800", "parent": "base"}]}'),
    "drips": drips,
    "drips headers": drips_headers,
    "says nothing": says_nothing,
    "no JSON": body(b"\xff\xfe"),
    "no HTTP": body(b"")
}  # fmt: skip


@asynccontextmanager
async def backend(answer: Answer) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def configuration(**endpoints: str) -> Config:
    return Config.model_validate({
        "providers": {"models": [
            {"name": name, "backend_refs": [{"endpoint": endpoint}]} for name, endpoint in endpoints.items()
        ]},
        "routing": {"modelCards": [{"name": name, "loras": [{"name": f"{name}-adapter"}]} for name in endpoints]},
        "global": {"router": {"adapter_discovery": {"timeout_seconds": 0.5}}},
    })  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
async def test_one_backend_does_not_keep_the_others_from_being_known(kind: str) -> None:
    results: list[LoadedAdapters] = []
    async with backend(HOSTILE[kind]) as odd, backend(body(listing("good", "good"))) as good:
        config = configuration(base=odd, good=good)
        async with asyncio.timeout(60):
            await Discovery(lambda: config, results.append, Metrics()).ask()
    assert results[-1].by_base["good"] == {"good-adapter"}
    assert not results[-1].by_base.get("base")


async def test_a_process_ends_while_a_backend_drips() -> None:
    script = """
import asyncio, sys
sys.path.insert(0, "tests")
from test_discovery import Discovery, Metrics, configuration

async def main():
    config = configuration(base=sys.argv[1])
    asking = asyncio.create_task(Discovery(lambda: config, print, Metrics()).ask())
    await asyncio.sleep(0.2)
    asking.cancel()

asyncio.run(main())
print("the loop has ended")
"""
    async with backend(drips) as odd:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", script, odd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        async with asyncio.timeout(60):
            output, _ = await process.communicate()
    assert process.returncode == 0 and b"the loop has ended" in output, output

"""One GET of a backend, which may be slow, hostile or broken: with a deadline for the whole answer, in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPException
from threading import Thread

# A list of some ten thousand adapters.
LARGEST_ANSWER = 8 * 1024 * 1024


async def get(address: str, path: str, seconds: float) -> bytes | None:
    """The answer of ``address`` (`host:port`); ``None`` where it gave none with status 200 in time."""
    opened: list[socket.socket] = []
    try:
        async with asyncio.timeout(seconds):
            return await _in_thread(partial(_ask, address, path, seconds, opened))
    except (OSError, HTTPException):
        return None
    finally:
        # Wakes a thread that still reads.
        for each in opened:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _ask(address: str, path: str, seconds: float, opened: list[socket.socket]) -> bytes | None:
    """``seconds`` is for each read; ``opened`` gets the socket, for who has no patience for all of them."""
    host, _, port = address.rpartition(":")
    connection = HTTPConnection(host.strip("[]"), int(port), timeout=seconds)
    try:
        connection.connect()
        opened.append(connection.sock)
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read(LARGEST_ANSWER)
        return body if response.status == 200 else None
    finally:
        connection.close()


def _in_thread(work: Callable[[], bytes | None]) -> asyncio.Future[bytes | None]:
    """Run ``work`` in a thread that holds up neither others nor the end of the process, whatever it waits for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes | None] = loop.create_future()

    def settle(result: bytes | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        # The loop may have ended by now.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, failure)

    Thread(target=run, name="poll", daemon=True).start()
    return answer

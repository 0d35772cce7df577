"""What a request takes that no other process can disturb: instructions, allocations, messages, bytes, system calls.

The first four are counted in this process: the router's own way from Envoy's messages to its replies, without sockets
and without Triton, so that the same code gives the same numbers. Messages and system calls of the running router are
counted where `strace` is, which a request waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import logging
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from perf.load import chat_bodies, closed_loop
from perf.prompts import SHORT
from triton_router.config import loads
from triton_router.extproc import wire
from triton_router.extproc.budget import Budget
from triton_router.extproc.messages import FILTER, HEADERS_ATTRIBUTE
from triton_router.extproc.processor import Processor
from triton_router.http2.grpc import Status
from triton_router.names import FALLS_BACK
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.telemetry import Metrics, configure_logging

HEADERS = {
    ":method": "POST", ":path": "/v1/chat/completions", ":authority": "localhost", ":scheme": "http",
    "content-type": "application/json", "x-forwarded-proto": "http",
    "x-request-id": "4a1f4a0e-93c1-4dfb-8a44-6b8a9c6f6b4e",
}  # fmt: skip
ANSWER = (
    b'{"id":"1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"Fine."},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}'
)
REQUESTS, WARM = 20, 200


class _Conversation:
    """A call of Envoy's for one request, whose response is one piece."""

    late = 0.0
    admit: Callable[[int], bool]
    metadata: dict[str, str] = {FALLS_BACK: "1"}  # noqa: RUF012

    def __init__(self, messages: list[bytes]) -> None:
        self._unread = list(messages)
        self.messages = self.bytes = 0

    async def read(self) -> bytes | None:
        if not self._unread:
            return None
        message = self._unread.pop(0)
        self._count(message)
        return message

    async def write(self, message: bytes) -> None:
        self._count(message)

    async def write_last(self, message: bytes) -> None:
        self._count(message)

    async def abort(self, status: Status, details: str) -> None:
        raise RuntimeError(f"{status.name}: {details}")

    def _count(self, message: bytes) -> None:
        self.messages += 1
        self.bytes += len(message)


def conversation(body: bytes) -> list[bytes]:
    """What Envoy sends for a request in one message, and for its response."""
    request = wire.ProcessingRequest(request_body=wire.HttpBody(body=body, end_of_stream=True))
    lines = [line for header in (HEADERS | {"content-length": str(len(body))}).items() for line in header]
    text = "\n".join([str(len(lines) // 2), *lines])
    request.attributes[FILTER].fields[HEADERS_ATTRIBUTE].string_value = text
    headers = wire.ProcessingRequest(response_headers=wire.HttpHeaders())
    fields = {":status": "200", "content-type": "application/json", "content-length": str(len(ANSWER))}
    for name, value in fields.items():
        headers.response_headers.headers.headers.add(key=name, raw_value=value.encode())
    response = wire.ProcessingRequest(response_body=wire.HttpBody(body=ANSWER, end_of_stream=True))
    return [each.SerializeToString() for each in (request, headers, response)]


def count(document: dict[str, Any], name: str) -> dict[str, float]:
    """The counts of a request that ``document`` routes without Triton, by figure; ``name`` is what it is called."""
    conversations = [conversation(body) for body in chat_bodies(SHORT, "MoM")]
    with contextlib.redirect_stderr(io.StringIO()):
        configure_logging()
    try:
        counted = asyncio.run(_counted(document, conversations))
    finally:
        logging.basicConfig(level=logging.WARNING, force=True)
    return {f"{figure} of {name}": value for figure, value in counted.items()}


async def _counted(document: dict[str, Any], conversations: list[list[bytes]]) -> dict[str, float]:
    pipeline = Pipeline(compile_runtime(loads(yaml.safe_dump(document))), None, {}, Metrics())
    processor = Processor(
        pipeline.route, max_body_bytes=2**24, join_gateway=False, waited=lambda: 0.0, budget=Budget(2**28)
    )
    calls = [_Conversation(conversations[number % len(conversations)]) for number in range(WARM + 4 * REQUESTS)]

    async def serve(count: int) -> None:
        for _ in range(count):
            await processor.serve(calls.pop())
            await asyncio.sleep(0)  # what is left to do behind the response

    await serve(WARM)
    instructions = await _instructions(lambda: serve(REQUESTS))
    blocks = await _allocated(lambda: serve(REQUESTS))
    last = calls[:REQUESTS]
    await serve(REQUESTS)
    return {
        "instructions": instructions / REQUESTS,
        "peak memory in KiB": blocks / 1024,
        "ext_proc messages": sum(call.messages for call in last) / REQUESTS,
        "ext_proc bytes": sum(call.bytes for call in last) / REQUESTS,
    }


async def _instructions(work: Callable[[], Awaitable[None]]) -> int:
    """Instructions of Python's virtual machine that ``work`` takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        await work()
    finally:
        sys.settrace(None)
    return count


async def _allocated(work: Callable[[], Awaitable[None]]) -> int:
    """Bytes of Python's memory that ``work`` needs at most, at its second time."""
    tracemalloc.start()
    # The cycle collector would run at any point of it.
    gc.collect()
    gc.disable()
    try:
        await work()
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        await work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        gc.enable()
        tracemalloc.stop()


async def system_calls(pid: int, port: int, bodies: list[bytes], requests: int, report: Path) -> float | None:
    """System calls of a process for each of ``requests`` on one connection; ``None`` without `strace`.

    What the process does by itself in as many seconds is taken off.
    """
    if shutil.which("strace") is None:
        return None

    async def traced(work: Callable[[], Awaitable[object]]) -> tuple[int, float]:
        command = ["strace", "-f", "-c", "-p", str(pid), "-o", str(report)]
        strace = await asyncio.to_thread(subprocess.Popen, command, stderr=subprocess.DEVNULL)
        await asyncio.sleep(0.5)
        began = time.monotonic()
        await work()
        seconds = time.monotonic() - began
        strace.terminate()
        await asyncio.to_thread(strace.wait)
        summary = await asyncio.to_thread(report.read_text)
        total = re.search(r"^100\.00\s+\S+\s+\d+\s+(\d+)\s.*total$", summary, re.MULTILINE)
        return int(total[1]) if total else 0, seconds + 0.5

    idle, rest = await traced(lambda: asyncio.sleep(2))
    busy, seconds = await traced(lambda: closed_loop(port, bodies, 1, requests))
    return max(busy - idle / rest * seconds, 0.0) / requests

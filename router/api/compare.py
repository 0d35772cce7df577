"""A comparison in a process of its own: requests do not wait for it, and what was pasted stays outside this one."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path

from triton_router.config import Loaded
from triton_router.jsontext import json_bytes

# A report is one line.
LONGEST_LINE = 64 * 1024 * 1024


async def comparison(
    before: Loaded, after: str, samples: Iterable[bytes], bundle: Path, answer_tokens: int
) -> AsyncGenerator[bytes]:
    """The lines of :mod:`triton_router.compare`; the process ends where nobody wants more of them.

    ``samples`` are lines as :func:`triton_router.compare.read_samples` reads them.
    """
    job = {
        "before": before.text,
        "file": before.file,
        "after": after,
        "allow_inactive": list(before.allow_inactive),
        "bundle": str(bundle),
        "answer_tokens": answer_tokens,
    }
    # Its metrics are not the service's.
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "triton_router.compare"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
        limit=LONGEST_LINE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        with suppress(ConnectionError):
            for line in chain([json_bytes(job)], samples):
                process.stdin.write(line + b"\n")
                # One by one: requests are routed in between.
                await process.stdin.drain()
        process.stdin.close()
        while line := await process.stdout.readline():
            yield line
            if line.startswith((b'{"report"', b'{"failed"')):
                # It has said all, and with its low priority may take a while to end.
                return
        yield b'{"failed":"the comparison ended early; see the log of the router"}\n'
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()

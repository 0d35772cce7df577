"""How long a router takes from its start to ready, and to follow a change of its configuration."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perf.testbed import Testbed
from triton_router.extproc.health import is_serving
from triton_router.http2.client import CallFailed


def measure(testbed: Testbed, gateway: int, name: str) -> dict[str, float]:
    """Seconds to ready of the router ``name``, started again, then milliseconds of its reload; Triton is up."""
    seconds = ready(testbed, gateway, name)
    # Texts of the first generation are encoded after it serves; a reload finds them there.
    time.sleep(3)
    path = testbed.directory / f"{name}.yaml"
    fields = reload(testbed, name, path.read_text() + "\n# changed\n")
    return {
        "ready_seconds": seconds,
        "seen_ms": fields["seen_ms"],
        "prepare_ms": fields["prepare_ms"],
        "swap_ms": fields["swap_ms"],
    }


def ready(testbed: Testbed, gateway: int, name: str) -> float:
    """Seconds from the start of the router ``name``, which is ended first, until it reports SERVING."""
    port = testbed.extproc_port(gateway)
    testbed.end(f"router-{name}")
    began = time.perf_counter()
    testbed.restart(f"router-{name}")
    _until(lambda: _serving(port))
    return time.perf_counter() - began


def reload(testbed: Testbed, name: str, text: str) -> dict[str, Any]:
    """Have the router ``name`` serve the configuration ``text``. Returns what it logs of that, and ``seen_ms``, how
    long it took from outside."""
    log = testbed.directory / f"router-{name}.log"
    before = len(_reloads(log))
    (testbed.directory / f"{name}.yaml").write_text(text)
    began = time.perf_counter()
    os.kill(testbed.pid(f"router-{name}"), signal.SIGHUP)
    _until(lambda: len(_reloads(log)) > before)
    seen_ms = (time.perf_counter() - began) * 1000
    return {**_reloads(log)[-1], "seen_ms": seen_ms}


def _serving(port: int) -> bool:
    try:
        return asyncio.run(is_serving(f"127.0.0.1:{port}"))
    except CallFailed:
        return False


def _reloads(log: Path) -> list[dict[str, Any]]:
    """What the router has logged of its reloads."""
    return [json.loads(line) for line in log.read_text().splitlines() if '"reloaded"' in line]


def _until(holds: Callable[[], bool], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            raise RuntimeError("the router did not do as it was told")
        time.sleep(0.01)

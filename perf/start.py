"""How long a router takes from its start to ready, and to follow a change of its configuration."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from perf.testbed import Testbed

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"


def measure(testbed: Testbed, gateway: int, name: str) -> dict[str, float]:
    """Seconds to ready of the router ``name``, started again, then milliseconds of its reload; Triton is up."""
    port = testbed.extproc_port(gateway)
    testbed.end(f"router-{name}")
    began = time.perf_counter()
    testbed.restart(f"router-{name}")
    _until(lambda: _serving(port))
    ready = time.perf_counter() - began
    # Texts of the first generation are encoded after it serves; a reload finds them there.
    time.sleep(3)
    path = testbed.directory / f"{name}.yaml"
    path.write_text(path.read_text() + "\n# changed\n")
    began = time.perf_counter()
    os.kill(testbed.pid(f"router-{name}"), signal.SIGHUP)
    log = testbed.directory / f"router-{name}.log"
    _until(lambda: bool(_reloaded(log)))
    visible_ms = (time.perf_counter() - began) * 1000
    fields = _reloaded(log)
    return {
        "ready_seconds": ready,
        "seen_ms": visible_ms,
        "prepare_ms": fields["prepare_ms"],
        "swap_ms": fields["swap_ms"],
    }


def _serving(port: int) -> bool:
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
            request = health_pb2.HealthCheckRequest(service=SERVICE)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=1)
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
    except grpc.RpcError:
        return False


def _reloaded(log: Path) -> dict[str, Any]:
    """What the router has logged of its last reload; empty when there was none."""
    for line in reversed(log.read_text().splitlines()):
        if '"reloaded"' in line:
            fields: dict[str, Any] = json.loads(line)
            return fields
    return {}


def _until(holds: Callable[[], bool], seconds: float = 120) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > ends:
            raise RuntimeError("the router did not do as it was told")
        time.sleep(0.01)

"""The ext_proc server in a process of its own, with the routing of a configuration file, and no Triton.

``python tests/stack/router_of_file.py PORT FILE``
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from triton_router.config import load
from triton_router.extproc.server import ExtProcServer
from triton_router.pipeline import Pipeline
from triton_router.runtime import compile_runtime
from triton_router.signals.domain import TopicParameters
from triton_router.telemetry import Metrics


async def main(port: int, file: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    loaded = load(file)
    pipeline = Pipeline(compile_runtime(loaded), None, TopicParameters(), Metrics())
    server = ExtProcServer(pipeline.route, port=port, max_body_bytes=loaded.config.global_.router.max_body_bytes)
    await server.start()
    await stop.wait()
    await server.drain(0)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))

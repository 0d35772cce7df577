"""The ext_proc server in a process of its own, with the plainest of routing: to the model that the request names.

``python tests/stack/router_by_name.py PORT [LARGEST]``: the latter is that of bodies, in bytes.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Mapping

from triton_router.errors import refusal_body
from triton_router.exchange import Forward, Outcome, Reply, Request
from triton_router.extproc.server import ExtProcServer

REFUSAL = b'{"error":{"message":"ours","type":"t","param":null,"code":"c"}}'


class Watcher:
    """Reads the whole response and changes nothing."""

    watches, shortens, checks = True, False, False

    def on_sent(self) -> None: ...

    def on_headers(self, status: int, headers: Mapping[str, str]) -> bool:
        return True

    async def check(self, piece: bytes, *, last: bool) -> None: ...

    def on_body(self, piece: bytes, *, last: bool = False) -> bytes | None: ...

    def on_complete(self) -> None: ...

    def on_end(self) -> None: ...


async def route(request: Request) -> Outcome:
    if request.method == "GET":
        return Reply(200, b'{"status":"ok"}', {"content-type": "application/json"})
    try:
        model = json.loads(request.body)["model"]
    except ValueError:
        return Reply(400, refusal_body(request.path, 400, "The body is not JSON."))
    if model == "show":
        return Reply(200, json.dumps(dict(request.headers)).encode())
    if model == "slow":
        await asyncio.sleep(4)
    if model == "refuse":
        return Reply(503, REFUSAL, {"content-type": "application/json", "x-ours": "yes"})
    if model == "watched":
        return Forward({"x-selected-model": model, "x-gateway-base-model-name": model}, observer=Watcher())
    return Forward({"x-selected-model": model, "x-gateway-base-model-name": model})


async def main(port: int, largest: int = 100_000) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = ExtProcServer(route, port=port, max_body_bytes=largest)
    await server.start()
    await stop.wait()
    await server.drain(0)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))

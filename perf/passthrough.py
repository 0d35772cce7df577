"""An ext_proc that does nothing: it has the same message from Envoy as the router, and says go on.

It speaks by the router's own server and messages, so that what is between it and the router is the router.
"""

from __future__ import annotations

import asyncio
import sys

from triton_router.extproc import wire
from triton_router.extproc.processor import SERVICE
from triton_router.http2.grpc import Call, GrpcServer, bind

_GO_ON = wire.ProcessingResponse(request_body=wire.BodyResponse()).SerializeToString()


async def _process(call: Call) -> None:
    message = wire.ProcessingRequest.FromString(await call.read() or b"")
    if message.WhichOneof("request") != "request_body":
        raise ValueError("requests are to come in one message")
    await call.write_last(_GO_ON)


async def _main(port: int) -> None:
    server = GrpcServer({f"/{SERVICE}/Process": _process}, max_message=16 * 1024 * 1024)
    await server.listen(bind("127.0.0.1", port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))

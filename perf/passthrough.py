"""An ext_proc that does nothing: it has the same three messages from Envoy as the router, and says go on.

Written with the router's own gRPC stack and message types, so that what is between it and the router is the router.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc

from triton_router.extproc import wire
from triton_router.extproc.phases import BodyMode

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
_ANSWERS = {
    "request_headers": wire.ProcessingResponse(
        request_headers=wire.HeadersResponse(),
        mode_override=wire.ProcessingMode(
            response_header_mode=wire.SEND,
            request_body_mode=BodyMode.BUFFERED,
            response_body_mode=BodyMode.NONE,
            request_trailer_mode=wire.SKIP,
            response_trailer_mode=wire.SKIP,
        ),
    ),
    "request_body": wire.ProcessingResponse(request_body=wire.BodyResponse()),
    "request_trailers": wire.ProcessingResponse(request_trailers=wire.TrailersResponse()),
    "response_headers": wire.ProcessingResponse(response_headers=wire.HeadersResponse()),
}
_SERIALIZED = {kind: answer.SerializeToString() for kind, answer in _ANSWERS.items()}


async def _process(_: Any, context: Any) -> None:
    while (data := await context.read()) is not grpc.aio.EOF:
        kind = wire.ProcessingRequest.FromString(data).WhichOneof("request")
        await context.write(_SERIALIZED[kind])
        if kind == "response_headers":
            return


async def _main(port: int) -> None:
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    handler = grpc.stream_stream_rpc_method_handler(_process)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Process": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))

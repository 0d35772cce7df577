"""An ext_proc that does nothing: it has the same three messages from Envoy as the router, and says go on.

Written with the router's own gRPC stack and message types, so that what is between it and the router is the router.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import grpc
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb

SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
_ANSWERS = {
    "request_headers": pb.ProcessingResponse(
        request_headers=pb.HeadersResponse(),
        mode_override=ProcessingMode(
            response_header_mode=ProcessingMode.SEND,
            request_body_mode=ProcessingMode.BUFFERED,
            response_body_mode=ProcessingMode.NONE,
            request_trailer_mode=ProcessingMode.SKIP,
            response_trailer_mode=ProcessingMode.SKIP,
        ),
    ),
    "request_body": pb.ProcessingResponse(request_body=pb.BodyResponse()),
    "request_trailers": pb.ProcessingResponse(request_trailers=pb.TrailersResponse()),
    "response_headers": pb.ProcessingResponse(response_headers=pb.HeadersResponse()),
}
_SERIALIZED = {kind: answer.SerializeToString() for kind, answer in _ANSWERS.items()}


async def _process(_: Any, context: Any) -> None:
    while (data := await context.read()) is not grpc.aio.EOF:
        kind = pb.ProcessingRequest.FromString(data).WhichOneof("request")
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

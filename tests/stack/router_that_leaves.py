"""An ext_proc server that ends every stream at once and cleanly, which Envoy takes for "go on unprocessed".

``python tests/stack/router_that_leaves.py PORT``
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

if __name__ == "__main__":
    server = grpc.server(ThreadPoolExecutor(2))
    leave = grpc.stream_stream_rpc_method_handler(lambda messages, context: iter(()))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("envoy.service.ext_proc.v3.ExternalProcessor", {"Process": leave})]
    )
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()

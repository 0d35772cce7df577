"""HTTP/2 and gRPC on asyncio: the server that Envoy's ext_proc filter talks to."""

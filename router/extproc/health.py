"""Checks whether a router's workers serve, as a probe does."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from triton_router.config.services import ExtProcSettings


def reachable(host: str) -> str:
    """The address at which this machine reaches a server that listens on ``host``."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}.get(host, host)


def worker_addresses(settings: ExtProcSettings) -> list[tuple[str, int]]:
    """Host and port at which this machine reaches the ext_proc service of each worker."""
    return [(reachable(settings.host), settings.port + index) for index in range(settings.workers)]


def health_targets(settings: ExtProcSettings) -> list[str]:
    """``host:port`` of each worker's health service in the clear.

    Raises:
        RuntimeError: there is none, because ext_proc speaks TLS and `health_port` is not set.
    """
    if settings.tls is not None and settings.health_port is None:
        message = "is missing: with `tls`, probes need a port in the clear"
        raise RuntimeError(f"global.services.extproc.health_port: {message}")
    offset = settings.health_port - settings.port if settings.health_port is not None else 0
    return [f"{f'[{host}]' if ':' in host else host}:{port + offset}" for host, port in worker_addresses(settings)]


async def is_serving(target: str) -> bool:
    """Ask the health service at ``target`` (``host:port``). Raises ``grpc.aio.AioRpcError`` without a response."""
    # gRPC waits for seconds after a refused connection. In the shared pool that pause outlives the channel.
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

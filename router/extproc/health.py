"""gRPC's health protocol, and whether a router's workers serve, as a probe asks it."""

from __future__ import annotations

from triton_router.config.services import ExtProcSettings
from triton_router.http2.client import GrpcChannel

SERVICE = "/grpc.health.v1.Health/"
# A serialized HealthCheckResponse: field 1, the status.
SERVING, NOT_SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x02", b"\x08\x03"
_WITHIN = 2.0


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
    """Ask the health service at ``target`` (``host:port``). Raises ``CallFailed`` without a response."""
    channel = GrpcChannel(target)
    try:
        return await channel.unary(f"{SERVICE}Check")(b"", _WITHIN) == SERVING
    finally:
        await channel.close()

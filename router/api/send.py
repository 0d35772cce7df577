"""Sending a request through Envoy for the page, whose own scripts may ask this service alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPResponse

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from triton_router.api.responses import ImpatientStream
from triton_router.config import Config
from triton_router.errors import Refusal

# What the page shows of a response's headers, besides those of the router itself.
_SHOWN = ("content-type", "server-timing")
# They belong to the connection, or are made anew.
_NOT_SENT = frozenset({"connection", "content-length", "host", "transfer-encoding"})
# Seconds for a connection; then as long as Envoy may be silent inside a response.
_CONNECT_WITHIN = 3.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def gateway(config: Config) -> str:
    """Where requests are sent: `host:port` of Envoy."""
    services = config.global_.services
    if services.api.page.gateway is not None:
        return services.api.page.gateway
    return f"{_ANY_ADDRESS.get(services.envoy.host, services.envoy.host)}:{services.envoy.port}"


async def send(config: Config, path: str, headers: Mapping[str, str], body: bytes) -> Response:
    """Envoy's response to ``body``, piece by piece as it comes.

    Raises:
        Refusal: Envoy does not answer.
    """
    address = gateway(config)
    connection = HTTPConnection(address, timeout=_CONNECT_WITHIN)
    passed = {name: value for name, value in headers.items() if name not in _NOT_SENT}

    def ask() -> HTTPResponse:
        connection.connect()
        connection.sock.settimeout(config.global_.services.envoy.idle_timeout_seconds)
        connection.request("POST", path, body, {"content-type": "application/json", **passed})
        return connection.getresponse()

    try:
        answer = await run_in_threadpool(ask)
    except (OSError, HTTPException, ValueError) as error:
        connection.close()
        raise Refusal(502, f"Envoy at {address} does not answer: {error or type(error).__name__}") from error
    shown = {
        name.lower(): value
        for name, value in answer.getheaders()
        if name.lower() in _SHOWN or name.lower().startswith("x-vsr-")
    }
    safe = {"x-content-type-options": "nosniff", "content-security-policy": "default-src 'none'; sandbox"}
    return ImpatientStream(_pieces(connection, answer), answer.status, shown | safe)


def _pieces(connection: HTTPConnection, answer: HTTPResponse) -> Iterator[bytes]:
    try:
        while piece := answer.read1(65536):
            yield piece
    finally:
        connection.close()

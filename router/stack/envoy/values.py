"""Values of Envoy's API in JSON: addresses, durations, typed extensions, limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from triton_router.config.section import is_ip

Json = dict[str, Any]
"""A message of Envoy's API as JSON, with the API's own field names."""

UNLIMITED = 1_000_000


def extension(name: str, message: str, **fields: Any) -> Json:
    """The extension ``name``, configured by ``message`` (below ``envoy.extensions``)."""
    return {"name": name, "typed_config": typed(message, **fields)}


def typed(message: str, **fields: Any) -> Json:
    return {"@type": f"type.googleapis.com/envoy.extensions.{message}", **fields}


OTHER_HOST: Json = {
    # A host that refuses has the fewest requests, so `LEAST_REQUEST` draws it again and again: five draws for another
    # one were seen to be too few.
    "host_selection_retry_max_attempts": 30,
    "retry_host_predicate": [
        extension("envoy.retry_host_predicates.previous_hosts", "retry.host.previous_hosts.v3.PreviousHostsPredicate")
    ],
}
"""In a policy: retries go to a host that has not been tried."""


def http_options(**fields: Any) -> Json:
    """In a cluster: its protocol options."""
    name = "upstreams.http.v3.HttpProtocolOptions"
    return {"typed_extension_protocol_options": {f"envoy.extensions.{name}": typed(name, **fields)}}


def lua(name: str, code: str) -> Json:
    """The filter ``name`` that runs ``code``."""
    return extension(name, "filters.http.lua.v3.Lua", default_source_code={"inline_string": code})


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` as (host without brackets, port)."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def discovery_type(hosts: Iterable[str]) -> str:
    return "STATIC" if all(map(is_ip, hosts)) else "STRICT_DNS"


def load_assignment(name: str, addresses: Sequence[tuple[str, int, int]]) -> Json:
    """Endpoints from (host, port, weight)."""
    endpoints = [
        {"endpoint": {"address": address(host, port)}, "load_balancing_weight": weight}
        for host, port, weight in addresses
    ]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def no_circuit_breaker(requests: int = UNLIMITED) -> Json:
    # The defaults (1024 requests, 3 retries) suit short requests; generations last, and a dead peer needs retries.
    threshold = {
        "max_connections": UNLIMITED,
        "max_pending_requests": UNLIMITED,
        "max_requests": requests,
        "max_retries": 1000,
    }
    return {"thresholds": [threshold]}


def address(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}


def seconds(duration: float) -> str:
    """A duration as protobuf's JSON has it: no exponent, nanoseconds at most."""
    return f"{duration:.9f}".rstrip("0").rstrip(".") + "s"

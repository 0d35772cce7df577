"""Small values of Envoy's API: addresses, durations, limits."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Sequence

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    ClusterDiscoveryType,
)
from envoy_data_plane.envoy.config.core.v3 import (
    Address,
    SocketAddress,
)
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)

from triton_router.stack.envoy.names import UNLIMITED

# A host that refuses has the fewest requests, so `LEAST_REQUEST` draws it again and again: five draws for another one
# were seen to be too few.
HOST_DRAWS = 30


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """``host:port`` or ``[v6]:port`` as (host without brackets, port)."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def discovery_type(hosts: Iterable[str]) -> ClusterDiscoveryType:
    return ClusterDiscoveryType.STATIC if all(map(_is_ip, hosts)) else ClusterDiscoveryType.STRICT_DNS


def load_assignment(name: str, addresses: Sequence[tuple[str, int, int]]) -> ClusterLoadAssignment:
    endpoints = [
        LbEndpoint(endpoint=Endpoint(address=address(host, port)), load_balancing_weight=weight)
        for host, port, weight in addresses
    ]
    return ClusterLoadAssignment(cluster_name=name, endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints)])


def no_circuit_breaker(requests: int = UNLIMITED) -> CircuitBreakers:
    # The defaults (1024 requests, 3 retries) suit short requests; generations last, and a dead peer needs retries.
    threshold = CircuitBreakersThresholds(
        max_connections=UNLIMITED, max_pending_requests=UNLIMITED, max_requests=requests, max_retries=1000
    )
    return CircuitBreakers(thresholds=[threshold])


def address(host: str, port: int) -> Address:
    return Address(socket_address=SocketAddress(address=host, port_value=port))


def seconds(seconds: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=seconds)

"""The ports that ``up`` needs, looked at before anything starts."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Port:
    """An address that a child will listen on, and the configuration key that names it."""

    host: str
    port: int
    key: str


def port_problems(ports: Iterable[Port]) -> list[str]:
    """One line for each port that cannot be had: in use, claimed twice, or not allowed."""
    problems: list[str] = []
    owners: dict[int, str] = {}
    for port in ports:
        if port.port in owners:
            problems.append(f"port {port.port} is named twice: by {owners[port.port]} and by {port.key}")
            continue
        owners[port.port] = port.key
        try:
            listening = socket.create_server((port.host, port.port), family=_family(port.host))
        except OSError as error:
            reason = "is already in use" if error.errno == 98 else f"cannot be used ({error.strerror or error})"
            problems.append(f"port {port.port} on {port.host} {reason}; it is set by {port.key}")
        else:
            listening.close()
    return problems


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET

"""How much memory Envoy takes: what it does beyond a bound, and giving memory back.

The router's budget refuses large bodies by their headers (429). Those whose length nobody declares are held before the
router can be asked; a number of them may be. Beyond the bound Envoy takes no new requests, whatever fills it.
"""

from __future__ import annotations

import os

from triton_router.config.schema import Config
from triton_router.config.services import MOST_HEAP
from triton_router.stack.envoy.values import Json, extension, seconds

_HEAP = "envoy.resource_monitors.fixed_heap"
# Parts of the bound: from the first one on Envoy gives memory back, from the second on it takes no new requests (503).
_SHRINK, _REFUSE = 0.7, 0.95
# What Envoy takes with neither requests nor bodies, many models included, and for each stream.
_AT_REST, _STREAM = 256 * 1024 * 1024, 64 * 1024
# A body is here up to three times: as it came, on its way to the router, and as the router has rewritten it.
_COPIES = 3
# Bodies without a length may take this part of the bound; some always may come.
_PART_UNDECLARED, _SOME = 2, 4
# Bytes of free memory that go back to the system each second.
_RETURNED = 128 * 1024 * 1024


def max_heap_bytes(config: Config) -> int:
    """The bound: as configured, or what the router's own limits amount to."""
    settings, extproc, router = config.global_.services.envoy, config.global_.services.extproc, config.global_.router
    if settings.max_heap_bytes is not None:
        return settings.max_heap_bytes
    bodies = max(router.max_bytes_in_flight, router.max_body_bytes)
    return min(MOST_HEAP, _AT_REST + extproc.workers * (_COPIES * bodies + _STREAM * extproc.max_streams))


def most_undeclared_bodies(config: Config) -> int:
    """How many bodies without a length one of Envoy's threads may wait for together."""
    threads = config.global_.services.envoy.concurrency or os.cpu_count() or 1
    bodies = max_heap_bytes(config) // _PART_UNDECLARED // config.global_.router.max_body_bytes
    return max(_SOME, bodies // threads)


def bounds(config: Config) -> Json:
    """The parts of the bootstrap that bound memory."""
    limit = {"max_heap_size_bytes": max_heap_bytes(config)}
    return {
        "overload_manager": {
            "refresh_interval": seconds(0.05),
            "resource_monitors": [extension(_HEAP, "resource_monitors.fixed_heap.v3.FixedHeapConfig", **limit)],
            "actions": [_beyond(_SHRINK, "shrink_heap"), _beyond(_REFUSE, "stop_accepting_requests")],
        },
        "memory_allocator_manager": {"bytes_to_release": _RETURNED, "memory_release_interval": seconds(1)},
    }


def _beyond(part: float, action: str) -> Json:
    trigger = {"name": _HEAP, "threshold": {"value": part}}
    return {"name": f"envoy.overload_actions.{action}", "triggers": [trigger]}

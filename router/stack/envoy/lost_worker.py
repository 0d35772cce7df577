"""The worker that had a request is gone: Envoy's part of what happens then.

Envoy repeats a call to the router by itself until its first response, if it is no longer than 64 KiB. Any other request
that is not decided on passes all filters anew, for another worker. A response that the worker was reading passes
unread, unless the configuration guards responses: then it fails, and so do those requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from triton_router.config.schema import Config
from triton_router.names import BASE_MODEL, REPEATED
from triton_router.stack.envoy import fallback
from triton_router.stack.envoy.ext_proc import full_duplex, overriding
from triton_router.stack.envoy.values import Json, extension, seconds

# Envoy may hear of the end of one connection after that of another, and would ask the same worker again.
_PAUSE = 0.25


def pause() -> Json:
    """The filter that holds up requests on their way back for as long as it takes to notice that a worker is gone."""
    return extension(
        "envoy.filters.http.fault",
        "filters.http.fault.v3.HTTPFault",
        headers=[{"name": REPEATED, "present_match": True}],
        delay={"fixed_delay": seconds(_PAUSE), "percentage": {"numerator": 100}},
    )


def with_second_try(config: Config, guards: Iterable[Json]) -> Iterator[Json]:
    """``guards`` meet requests that no worker has decided on; before each, a route that sends them back once."""
    if not _goes_on(config):
        yield from guards
        return
    for guard in guards:
        match = guard["match"]
        back = {
            "match": {**match, "headers": [*match.get("headers", []), _without(REPEATED), _without(BASE_MODEL)]},
            "route": {"cluster": fallback.BACK, "internal_redirect_policy": fallback.FOLLOWED},
            "request_headers_to_add": [{"header": {"key": REPEATED, "value": "1"}}],
            "response_headers_to_remove": ["location"],
        }
        yield overriding(back, failure_mode_allow=True)
        yield overriding(guard, failure_mode_allow=True)


def _without(header: str) -> Json:
    return {"name": header, "present_match": True, "invert_match": True}


def _goes_on(config: Config) -> bool:
    """Whether Envoy may go on without the worker, and does not do so anyway. Some bodies only the worker has."""
    envoy = config.global_.services.envoy
    return not (full_duplex(envoy) or envoy.failure_mode_allow or config.guards_responses)

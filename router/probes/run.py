"""Running probes: in this process against Triton, or through a gateway that runs."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote

from triton_router import names
from triton_router.config import Config, Loaded
from triton_router.config.schema import Decision
from triton_router.dialects import ChatRequest
from triton_router.generations import Generations
from triton_router.inference import load_bundle
from triton_router.probes.form import Probe
from triton_router.probes.verdicts import Cause, Result, of_headers, of_record
from triton_router.signals import SignalInput
from triton_router.telemetry import Metrics

# Seconds that Triton may take until it has encoded all texts of a configuration.
READY_WITHIN = 120.0


async def in_process(loaded: Loaded, manifest: Path, probes: Iterable[Probe]) -> list[Result]:
    """Decide each probe with ``loaded``, whose Triton must be up; ``manifest`` is that of the signal bundle.

    Raises:
        RuntimeError: what the signals ask does not come up.
    """
    bundle, tokenizers = load_bundle(manifest)
    generations = Generations(loaded, bundle, tokenizers, Metrics())
    async with generations.running():
        if not await generations.settled(READY_WITHIN):
            endpoint = loaded.config.global_.inference.endpoint
            raise RuntimeError(f"Triton at {endpoint} does not serve the signal models, so probes would prove nothing")
        results = []
        for probe in probes:
            request = ChatRequest.parse(probe.body)
            pipeline = generations.current
            query = SignalInput(request, probe.headers, reader=pipeline.runtime.reader)
            results.append(of_record(probe, await pipeline.decide(query, everything=True)))
        return results


def through_gateway(url: str, config: Config, probes: Iterable[Probe], timeout: float) -> list[Result]:
    """Send each probe to the gateway at ``url`` as a chat request; ``timeout`` in seconds."""
    tables = {"": _by_name(config.routing.decisions)}
    tables |= {recipe.name: _by_name(recipe.routing.decisions) for recipe in config.recipes}
    return [_send(url.rstrip("/") + names.CHAT_PATH, tables, probe, timeout) for probe in probes]


def _by_name(decisions: Iterable[Decision]) -> dict[str, Decision]:
    return {decision.name: decision for decision in decisions}


def _send(url: str, tables: dict[str, dict[str, Decision]], probe: Probe, timeout: float) -> Result:
    headers = {**probe.headers, "content-type": "application/json"}
    request = urllib.request.Request(url, probe.body, headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:
            received = dict(response.headers)
    except urllib.error.HTTPError as error:
        # Where the router decided, its headers are there; what the backend says of the request is not asked.
        received = dict(error.headers)
        if names.RESPONSE_MODEL not in {name.lower() for name in received}:
            return Result(probe, False, None, None, None, causes=(Cause(f"HTTP status {error.code}"),))
    except OSError as error:
        return Result(probe, False, None, None, None, causes=(Cause(f"no response: {error}"),))
    decoded = {name.lower(): unquote(value) for name, value in received.items()}
    return of_headers(probe, decoded, tables.get(decoded.get(names.RECIPE, ""), {}))

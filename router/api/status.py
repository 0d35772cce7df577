"""What the health view shows: each part of the router as it is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from triton_router import __version__
from triton_router.api.state import ServiceState
from triton_router.inference import Encoder
from triton_router.pipeline import Pipeline

# Adapters of a backend that are named though nobody declared them.
MOST_ADAPTERS = 20


def described(encoder: Encoder) -> dict[str, Any]:
    """One trunk on Triton."""
    trunk = encoder.trunk
    return {
        "name": trunk.name,
        "triton_model": trunk.model,
        "ready": encoder.failure is None,
        "failure": encoder.failure,
        "detail": encoder.detail,
        "deadline_ms": encoder.deadline * 1000,
        "embedding_dimension": trunk.embedding.dimension if trunk.embedding else None,
        "heads": {head.name: list(head.labels) for head in trunk.heads},
        "max_tokens": trunk.max_tokens,
        "buckets": list(trunk.buckets),
        "checksum": encoder.checksum,
    }


def status(
    pipeline: Pipeline, state: ServiceState, rejected: Sequence[str], troubles: Mapping[str, str]
) -> dict[str, Any]:
    """All of it as JSON-ready data; see :class:`.app` for ``rejected`` and ``troubles``.

    Gauges are sums over all processes. A trunk's `calls` are those of the router, its `load` is what Triton says.
    """
    loaded, history, triton = state.loaded(), state.feed.history, state.statistics
    return {
        "version": __version__,
        "generation": pipeline.runtime.generation,
        "since": state.since(),
        "file": Path(loaded.file).name,
        "rejected": list(rejected),
        "warnings": [str(warning) for warning in loaded.warnings],
        "troubles": dict(troubles),
        "workers": [{"port": port, "ready": ready} for port, ready in state.workers().items()],
        "gauges": history.gauges,
        "triton": {"endpoint": pipeline.runtime.config.global_.inference.endpoint, "failures": triton.failures},
        "trunks": [
            {
                **described(encoder),
                "calls": history.trunks.get(encoder.trunk.name, {}),
                "load": asdict(load) if (load := triton.loads.get(encoder.trunk.model)) else None,
            }
            for encoder in (pipeline.encoders.watched if pipeline.encoders else ())
        ],
        "backends": _backends(pipeline),
    }


def _backends(pipeline: Pipeline) -> list[dict[str, Any]]:
    config = pipeline.runtime.config
    declared = {card.name: [lora.name for lora in card.loras] for card in config.routing.modelCards}
    return [
        {
            "model": model.name,
            "endpoints": [ref.endpoint for ref in model.backend_refs],
            **_adapters(declared.get(model.name, []), pipeline.adapters.by_base.get(model.name)),
        }
        for model in config.providers.models
    ]


def _adapters(declared: Sequence[str], loaded: Collection[str] | None) -> dict[str, Any]:
    """Backends may have ten thousand adapters, so of those that nobody declared only some are named. ``loaded`` of
    ``None``: the backend did not say."""
    return {
        "declared": declared,
        "missing": [name for name in declared if loaded is not None and name not in loaded],
        "loaded": len(loaded) if loaded is not None else None,
        "others": sorted(set(loaded or ()) - set(declared))[:MOST_ADAPTERS],
    }

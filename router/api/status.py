"""What the health view shows: each part of the router as it is, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from triton_router import __version__
from triton_router.config import Loaded
from triton_router.inference import Encoder
from triton_router.pipeline import Pipeline


def described(encoder: Encoder) -> dict[str, Any]:
    """One trunk on Triton."""
    trunk = encoder.trunk
    return {
        "name": trunk.name,
        "triton_model": trunk.model,
        "ready": encoder.failure is None,
        "failure": encoder.failure,
        "deadline_ms": encoder.deadline * 1000,
        "embedding_dimension": trunk.embedding.dimension if trunk.embedding else None,
        "heads": {head.name: list(head.labels) for head in trunk.heads},
        "max_tokens": trunk.max_tokens,
        "buckets": list(trunk.buckets),
        "checksum": encoder.checksum,
    }


def status(
    pipeline: Pipeline,
    loaded: Loaded,
    rejected: Sequence[str],
    gauges: Mapping[str, float],
    workers: Mapping[int, bool],
) -> dict[str, Any]:
    """All of it as JSON-ready data. ``gauges`` are sums over all processes, ``workers`` says by port who is ready."""
    config = pipeline.runtime.config
    cards = {card.name: card for card in config.routing.modelCards}
    return {
        "version": __version__,
        "generation": pipeline.runtime.generation,
        "file": Path(loaded.file).name,
        "rejected": list(rejected),
        "warnings": [str(warning) for warning in loaded.warnings],
        "workers": [{"port": port, "ready": ready} for port, ready in workers.items()],
        "gauges": dict(gauges),
        "trunks": [described(encoder) for encoder in pipeline.encoders or ()],
        "backends": [
            {
                "model": model.name,
                "endpoints": [ref.endpoint for ref in model.backend_refs],
                "declared": [lora.name for lora in card.loras] if (card := cards.get(model.name)) else [],
                "loaded": sorted(loaded_names) if (loaded_names := pipeline.adapters.by_base.get(model.name)) else None,
            }
            for model in config.providers.models
        ],
    }

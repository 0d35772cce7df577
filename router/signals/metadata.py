"""Metadata signals: values that the client puts into the request's `metadata` object."""

from __future__ import annotations

from typing import Any

from triton_router.config.signals import MetadataPredicate, MetadataSignal
from triton_router.signals.contract import Evaluations, SignalInput, SignalKind, SignalResults, certain


class MetadataValues(SignalKind[MetadataSignal]):
    """Never unknown. A request without `metadata` has no keys."""

    SETTINGS = MetadataSignal

    def evaluate(self, query: SignalInput, results: SignalResults) -> Evaluations:
        value = query.request.get("metadata")
        metadata: dict[str, Any] = value if isinstance(value, dict) else {}
        holding = ((key, _holds(signal.predicate, metadata, signal.key))
                   for key, signal in zip(self.keys, self.signals, strict=True))  # fmt: skip
        return {key: certain(holds) for key, holds in holding}


def _holds(predicate: MetadataPredicate, metadata: dict[str, Any], key: str) -> bool:
    if predicate.exists is not None:
        return (key in metadata) is predicate.exists
    value = metadata.get(key)
    if not isinstance(value, str):
        return False
    return value == predicate.equals if predicate.equals is not None else value in (predicate.in_ or ())

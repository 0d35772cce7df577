"""Metadata signals: values that the client puts into the request's `metadata` object."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from triton_router.config.signals import MetadataPredicate, MetadataSignal
from triton_router.dialects import ModelRequest
from triton_router.signals import Evaluation, certain

TYPE = "metadata"


class MetadataReader:
    """Evaluates metadata signals; never unknown. A request without `metadata` has no keys."""

    def __init__(self, signals: Iterable[MetadataSignal]) -> None:
        self._signals = tuple(signals)

    def evaluate(self, request: ModelRequest) -> dict[tuple[str, str], Evaluation]:
        metadata = request.get("metadata") if self._signals else None
        found: dict[str, Any] = metadata if isinstance(metadata, dict) else {}
        return {(TYPE, signal.name): certain(_holds(signal.predicate, found, signal.key)) for signal in self._signals}


def _holds(predicate: MetadataPredicate, metadata: dict[str, Any], key: str) -> bool:
    if predicate.exists is not None:
        return (key in metadata) is predicate.exists
    value = metadata.get(key)
    if not isinstance(value, str):
        return False
    return value == predicate.equals if predicate.equals is not None else value in (predicate.in_ or ())

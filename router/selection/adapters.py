"""Which LoRA adapters the backends have loaded, as their `/v1/models` say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class LoadedAdapters:
    """Adapters by base model. A base that is not here has not answered, or loads adapters on demand."""

    by_base: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def missing(self, base: str, adapter: str) -> bool:
        """Whether the base's backends are known to serve without the adapter."""
        loaded = self.by_base.get(base)
        return loaded is not None and adapter not in loaded

    def base_of(self, adapter: str) -> str | None:
        """The first base that lists the adapter."""
        return next((base for base, loaded in self.by_base.items() if adapter in loaded), None)


def listed_adapters(answer: Any, base_names: Iterable[str]) -> frozenset[str]:
    """The adapters of one model in an answer of `/v1/models`; ``base_names`` are the names that the model goes by.

    An entry with a ``parent`` is an adapter of that parent. vLLM may name the parent by the path of its weights, which
    stands as ``root`` in the base's own entry.

    Raises:
        ValueError: the answer is no list of models, or does not name the model: then it says nothing of its adapters.
    """
    entries = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(entries, list):
        raise ValueError("no list of models")
    models = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    names = set(base_names)
    if not any(entry["id"] in names for entry in models):
        raise ValueError("the model is not in the list")
    parents = names | {entry["root"] for entry in models if entry["id"] in names and isinstance(entry.get("root"), str)}
    adapters = (entry["id"] for entry in models if isinstance(entry.get("parent"), str) and entry["parent"] in parents)
    return frozenset(adapters) - names

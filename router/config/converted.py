"""A canonical configuration under construction. Each part records its path in the flat form."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from triton_router.config.document import Path


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake that only the flat form can have; ``path`` as written, ``candidates`` the valid names for ``name``."""

    path: Path
    message: str
    name: str = ""
    candidates: tuple[str, ...] = ()
    harmless: bool = False


@dataclass(slots=True)
class Converted:
    """``data`` in the canonical form; ``origin`` maps each part to its path in the flat form."""

    data: dict[str, Any] = field(default_factory=dict)
    origin: dict[Path, Path] = field(default_factory=dict)
    problems: list[Mistake] = field(default_factory=list)

    def put(self, path: Path, value: Any, source: Path) -> None:
        """Write ``value`` at ``path``; the next index of a list appends to it. An empty section counts as missing."""
        at: Any = self.data
        for step, following in pairwise(path):
            empty: Any = [] if isinstance(following, int) else {}
            if isinstance(at, list):
                if step == len(at):
                    at.append(empty)
                at = at[step]  # type: ignore[index]  # steps into lists are numbers
            else:
                if at.get(step) is None:
                    at[step] = empty
                at = at[step]
        if isinstance(at, list):
            at.append(value)
        else:
            at[path[-1]] = value
        self.origin[path] = source

    def put_each(self, path: Path, entry: dict[str, Any], source: Path, keys: Iterable[str]) -> None:
        """Write below ``path`` those of ``keys`` that ``entry`` has."""
        for key in keys:
            if entry.get(key) is not None:
                self.put((*path, key), entry[key], (*source, key))

    def append(self, path: Path, entry: dict[str, Any], source: Path) -> None:
        """Append ``entry`` to the list at ``path``, which may be missing; it is the canonical ``source`` that asks for
        it. Without effect where something else than a list stands.
        """
        at: Any = self.data
        for step in path[:-1]:
            if not isinstance(at, dict):
                return
            if at.get(step) is None:
                at[step] = {}
            at = at[step]
        if not isinstance(at, dict):
            return
        if at.get(path[-1]) is None:
            at[path[-1]] = []
        if not isinstance(listed := at[path[-1]], list):
            return
        self.origin[(*path, len(listed))] = self.written(source)
        listed.append(entry)

    def drop(self, parent: Any, key: str, path: Path, indices: Collection[int]) -> None:
        """Take the items of the list ``parent[key]``, whose parent stands at ``path``, out that nothing reads."""
        if not indices:
            return
        remaining = [index for index in range(len(parent[key])) if index not in indices]
        parent[key] = [parent[key][index] for index in remaining]
        for place, index in enumerate(remaining):
            self.origin[(*path, key, place)] = (*path, key, index)

    def next(self, path: Path) -> Path:
        """The path of the next element of the list at ``path``."""
        at: Any = self.data
        for step in path:
            at = (at.get(step) or {}) if isinstance(at, dict) else at[step]
        return (*path, len(at))

    def written(self, path: Path) -> Path:
        """The user's own path for the canonical ``path``."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.origin:
                return (*self.origin[path[:end]], *path[end:])
        # A section that only its parts were written for.
        return next((source for below, source in self.origin.items() if below[: len(path)] == path), path)

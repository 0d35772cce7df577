"""Labelled rows to train on: files, their licences, and what must stay together when some are held back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from export.checksums import sha256
from export.encoder import Row, read_rows
from triton_router.signals.passages import pieces

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Group = Literal["row", "source", "lang"]
"""What is held back as a whole: a row, all of a source (the part before the colon), or all of a language."""


@dataclass(frozen=True)
class DataFile:
    """Labelled JSON lines, each row counting `weight` times; with `label` all rows have that one."""

    path: Path
    weight: float
    label: str | None = None

    @classmethod
    def parse(cls, text: str) -> DataFile:
        """`PATH[:WEIGHT][=LABEL]`. Raises ValueError for a weight that is not above zero."""
        place, equals, label = text.rpartition("=")
        if not equals or Path(text).exists():
            place, label = text, ""
        path, colon, weight = place.rpartition(":")
        if not colon or Path(place).exists():
            return cls(Path(place), 1.0, label or None)
        if not float(weight) > 0:
            raise ValueError(f"{text}: the weight must be above zero")
        return cls(Path(path), float(weight), label or None)

    @property
    def name(self) -> str:
        """Of its rows with their labels."""
        return self.path.name + (f"={self.label}" if self.label else "")


@dataclass(frozen=True)
class Data:
    """All rows, file after file. A row may stand as several texts, its passages."""

    files: tuple[DataFile, ...]
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    truth: Indices
    """Index of each text's label."""
    origin: Indices
    """Index of each text's file."""
    row: Indices
    """Index of the row that each text is of."""
    group: Indices
    """Index of what is held back together."""
    held_back: NDArray[np.bool_]
    """A tenth of the rows, by their text or group: the same row is held back in every file and every run."""

    @classmethod
    def read(
        cls,
        files: Sequence[DataFile],
        without: Sequence[str] = (),
        *,
        renamed: Mapping[str, str] | None = None,
        group: Group = "row",
        passages: bool = False,
        languages: Sequence[str] = (),
    ) -> Data:
        """All rows but those whose source starts with one of ``without``: their licence forbids it, or they are to
        measure with. ``renamed``: labels by what the files call them. ``passages``: texts are cut as the router cuts
        a conversation, with disguises taken off. ``languages``: rows that say another one are left out; empty: none.

        Raises ValueError for a file that cannot be read, and where there is one label only."""

        def counts(row: Row) -> bool:
            spoken = not (languages and row.lang) or row.lang in languages
            return spoken and not row.source.startswith(tuple(without))

        parts = [list(filter(counts, read_rows(file.path))) for file in files]
        rows = [(file, row) for file, part in enumerate(parts) for row in part]
        names = [files[file].label or (renamed or {}).get(row.label, row.label) for file, row in rows]
        labels = tuple(sorted(set(names)))
        if len(labels) < 2:
            raise ValueError(f"rows of two labels at least are needed; found {', '.join(labels) or 'none'}")
        texts = [list(pieces(row.text)) or [row.text] if passages else [row.text] for _, row in rows]
        each = np.repeat(np.arange(len(rows)), [len(part) for part in texts])
        groups = [_GROUPS[group](number, row) for number, (_, row) in enumerate(rows)]
        _, together = np.unique(groups, return_inverse=True)
        return cls(
            files=tuple(files),
            labels=labels,
            texts=tuple(text for part in texts for text in part),
            truth=np.asarray([labels.index(name) for name in names])[each],
            origin=np.asarray([file for file, _ in rows])[each],
            row=each,
            group=together[each],
            held_back=np.asarray([_digest(row.group or row.text) % 10 == 0 for _, row in rows])[each],
        )

    @property
    def weights(self) -> Floats:
        return np.asarray([file.weight for file in self.files])[self.origin]

    def of(self, mask: NDArray[np.bool_]) -> Data:
        texts = tuple(text for text, keep in zip(self.texts, mask, strict=True) if keep)
        return replace(
            self,
            texts=texts,
            truth=self.truth[mask],
            origin=self.origin[mask],
            row=self.row[mask],
            group=self.group[mask],
            held_back=self.held_back[mask],
        )

    def unseen(self, learnt: Collection[str]) -> NDArray[np.bool_]:
        """Texts that a delta has not seen with these labels, which learnt files of these names (`DataFile.name`) but
        for what is held back."""
        mask = np.asarray([file.name in learnt for file in self.files])
        return self.held_back | ~mask[self.origin]

    def worst(self, likely: Floats) -> NDArray[np.bool_]:
        """Which text of each row is the likeliest, one a row: what the router goes by."""
        order = np.lexsort((-likely, self.row))
        chosen = np.zeros(len(self.texts), np.bool_)
        chosen[order[np.unique(self.row[order], return_index=True)[1]]] = True
        return chosen

    def facts(self) -> list[dict[str, Any]]:
        return [
            {
                "file": file.path.name,
                "rows": len(np.unique(self.row[self.origin == index])),
                "weight": file.weight,
                **({"label": file.label} if file.label else {}),
                "sha256": sha256(file.path),
            }
            for index, file in enumerate(self.files)
        ]


_GROUPS: dict[Group, Callable[[int, Row], str]] = {
    "row": lambda number, row: row.group or str(number),
    "source": lambda number, row: row.source.partition(":")[0],
    "lang": lambda number, row: row.lang,
}


def _digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)

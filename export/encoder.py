"""The encoder without Triton, for training and measuring: the same tokens, windows and padding as in service."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from triton_router.cache.judge import simple
from triton_router.inference.bundle import SAME, Trunk, load_bundle
from triton_router.inference.windows import Batch, Windows

Vectors = NDArray[np.float32]
Item = TypeVar("Item")

# Between the two texts of a pair, where the trunk's tokenizer has a token that ends each.
SEPARATOR = "\x1e"
PAIR_LABELS = {0: "different", 1: "same"}


@dataclass(frozen=True)
class Row:
    """One labelled prompt."""

    text: str
    label: str
    source: str = ""
    """The data set that it is from, and its part."""
    lang: str = ""
    """ISO 639-1; empty where the file does not say."""
    also: tuple[str, ...] = ()
    """Labels that can be argued for as well."""
    group: str = ""
    """Rows of one group are held back together; empty: the row stands alone."""


@dataclass(frozen=True)
class ScoredPair:
    """Two texts, and how alike somebody found them: 0 or 1, or a grade."""

    first: str
    second: str
    label: float
    source: str = ""


def read_rows(path: Path) -> list[Row]:
    """Rows with `text`, `label`, and where the file has them `source`, `lang` and `also`.

    Files of people's prompts keep the source's own category in `label` and the domain in `domain`, which counts. A pair
    of texts `a` and `b` is one text, as a head that judges pairs reads it: 0 is `different`, 1 is `same`. A group of a
    question `q`, the `same` in other words, and `other` questions like it, gives all its pairs.

    Raises ValueError for a file that cannot be read, and with the line's number for a line that is no object with
    texts `text` and `label`, no pair and no group."""

    def rows(document: Any) -> list[Row]:
        if "q" in document:
            return _group_rows(document)
        if "a" in document:
            pair = document["a"], document["b"]
            return [_pair_row(pair, document["label"], str(document.get("source", "")), str(document.get("lang", "")))]
        text, label = document["text"], document.get("domain") or document["label"]
        if not (isinstance(text, str) and isinstance(label, str)):
            raise TypeError("`text` and `label` must be texts")
        also = tuple(document.get("also") or ())
        return [Row(text, label, str(document.get("source", "")), str(document.get("lang", "")), also)]

    return [row for each in _read(path, rows) for row in each]


def _group_rows(document: Any) -> list[Row]:
    """Each `other` beside the question and beside one in other words."""
    question, same, others = document["q"], document["same"], document["other"]
    pairs = [(pair, 1) for pair in combinations((question, *same), 2)]
    for number, other in enumerate(others):
        pairs += [((question, other), 0), ((same[number % len(same)], other), 0)]
    return [replace(_pair_row(pair, label), group=question) for pair, label in pairs]


def _pair_row(pair: tuple[str, ...], label: int, source: str = "", lang: str = "") -> Row:
    if not all(isinstance(text, str) for text in pair):
        raise TypeError("the texts of a pair must be texts")
    # Who writes a pair writes the plain question first: the order must say nothing.
    first, second = sorted(map(simple, pair), key=lambda text: crc32(text.encode()))
    return Row(f"{first}{SEPARATOR}{second}", PAIR_LABELS[label], source, lang)


def read_pairs(path: Path, without: Sequence[str] = ()) -> list[ScoredPair]:
    """Those whose `source` starts with none of ``without``.

    Raises ValueError for a file that cannot be read, and with the line's number for a line that is no object with
    texts `a`, `b`, number `label`."""

    def pair(document: Any) -> ScoredPair:
        first, second, label = document["a"], document["b"], document["label"]
        if not (isinstance(first, str) and isinstance(second, str) and isinstance(label, int | float)):
            raise TypeError("`a` and `b` must be texts, `label` a number")
        return ScoredPair(first, second, float(label), str(document.get("source", "")))

    return [each for each in _read(path, pair) if not each.source.startswith(tuple(without))]


def _read(path: Path, made: Callable[[Any], Item]) -> list[Item]:
    items = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error
    # Not `splitlines`, which also splits at the Unicode separators that texts contain.
    for number, line in enumerate(text.rstrip("\n").split("\n"), 1):
        try:
            items.append(made(json.loads(line)))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: {error!r}") from error
    return items


class OnnxEncoder:
    """One ONNX file on ONNX Runtime, one thread, one text at a time as at low load."""

    def __init__(self, model: Path, described: Trunk | Mapping[str, Any], tokenizer: bytes) -> None:
        """described: the trunk, or as it stands in the bundle's manifest."""
        self.trunk = Trunk.model_validate(described)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # As the served session: see `model.py` of the repository.
        self.session = ort.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
        )
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.windows = Windows(self.trunk, tokenizer)

    @classmethod
    def served(cls, repository: Path, name: str | None = None) -> OnnxEncoder:
        """A trunk of a repository, by default the first, as it is served on CPU.

        Raises FileNotFoundError where no model was exported.
        """
        bundle, tokenizers = load_bundle(repository / "bundle.json")
        trunk = next(trunk for trunk in bundle.trunks if name in (None, trunk.name))
        model = repository / trunk.model / "1" / "model.onnx"
        if not model.is_file():
            raise FileNotFoundError(f"no model at {model}: `python -m export all` makes it")
        return cls(model, trunk, tokenizers[trunk.name])

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, Vectors]:
        """Without the padding that no row needs, as served on CPU; see `model.py` too."""
        needed = int(np.flatnonzero(mask.any(axis=0))[-1]) + 1
        ids, mask = ids[:, :needed], mask[:, :needed]
        values = self.session.run(self.outputs, {"input_ids": ids, "attention_mask": mask})
        return dict(zip(self.outputs, values, strict=True))

    def first(self, text: str) -> dict[str, Vectors]:
        """[width] by output name, or [tokens, labels] per token, of the first window of a text."""
        batch = self.windows.pad(self.windows.rows(text)[:1])
        return {name: value[0] for name, value in self.run(batch.ids, batch.mask).items()}

    def same(self, first: str, second: str) -> float:
        """How probable it is that two texts ask the same, by a trunk that reads pairs, in both orders as the router
        does; 0 over ``max_tokens``."""
        rows = [row for pair in ((first, second), (second, first)) if (row := self.windows.pair(*pair)) is not None]
        if not rows:
            return 0.0
        (head,), batch = self.trunk.heads, self.windows.pad(rows)
        return float(self.run(batch.ids, batch.mask)[head.output][:, head.labels.index(SAME)].mean())

    def encode(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """[texts, width] by output name; several windows of one text are averaged, as the router does.

        Raises ValueError for a pair over ``max_tokens``."""
        rows: dict[str, list[Vectors]] = {name: [] for name in self.outputs}
        for text in texts:
            batch = self.windows.batch(text) if SEPARATOR not in text else self._pair(*text.split(SEPARATOR))
            for name, value in self.run(batch.ids, batch.mask).items():
                rows[name].append(value.mean(axis=0))
        return {name: np.stack(values) for name, values in rows.items()}

    def _pair(self, first: str, second: str) -> Batch:
        if (row := self.windows.pair(first, second)) is None:
            raise ValueError(f"a pair of {len(first)} and {len(second)} characters is longer than the trunk reads")
        return self.windows.pad([row])

"""The encoder without Triton, for training and measuring: the same tokens, windows and padding as in service."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from router.inference.bundle import Trunk
from router.inference.windows import Windows

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Row:
    """One labelled prompt."""

    text: str
    label: str


def read_rows(path: Path) -> list[Row]:
    """Raises ValueError, with the line's number, for a line that is no object with texts `text` and `label`."""
    rows = []
    # Not `splitlines`, which also splits at the Unicode separators that texts contain.
    for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
        try:
            document = json.loads(line)
            text, label = document["text"], document["label"]
            if not (isinstance(text, str) and isinstance(label, str)):
                raise TypeError("`text` and `label` must be texts")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: {error!r}") from error
        rows.append(Row(text, label))
    return rows


class Encoder:
    """One ONNX file on ONNX Runtime, one thread, one text at a time as at low load."""

    def __init__(self, model: Path, described: Mapping[str, Any], tokenizer: str) -> None:
        """described: the trunk as it stands in the bundle's manifest."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        # As the served session: see `model.py` of the repository.
        self.session = ort.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
        )
        self.outputs = [output.name for output in self.session.get_outputs()]
        self.windows = Windows(Trunk.model_validate(described), tokenizer.encode())

    def run(self, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> dict[str, Vectors]:
        values = self.session.run(self.outputs, {"input_ids": ids, "attention_mask": mask})
        return dict(zip(self.outputs, values, strict=True))

    def encode(self, texts: Sequence[str]) -> dict[str, Vectors]:
        """[texts, width] by output name; several windows of one text are averaged, as the router does."""
        gathered: dict[str, list[Vectors]] = {name: [] for name in self.outputs}
        for text in texts:
            batch = self.windows.batch(text)
            for name, value in self.run(batch.ids, batch.mask).items():
                gathered[name].append(value.mean(axis=0))
        return {name: np.stack(values) for name, values in gathered.items()}

"""A low-rank change of an encoder's dense layers (Hu et al., 2021): the file that is tracked, read, written, merged.

A weight W [out, in] becomes W + B·A, with A [rank, in] and B [out, rank]. Merged once, while the graph is made, it
costs nothing in service.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT = "1"
# In bytes. The file goes into git, where every version of it stays.
LIMIT = 4_000_000
# Dense layers by their name in the file: where transformers has the weight, in BERT and in ModernBERT.
PLACES = {
    "query": "encoder.layer.{}.attention.self.query.weight",
    "key": "encoder.layer.{}.attention.self.key.weight",
    "value": "encoder.layer.{}.attention.self.value.weight",
    "attention.output": "encoder.layer.{}.attention.output.dense.weight",
    "intermediate": "encoder.layer.{}.intermediate.dense.weight",
    "output": "encoder.layer.{}.output.dense.weight",
    "attn.qkv": "layers.{}.attn.Wqkv.weight",
    "attn.out": "layers.{}.attn.Wo.weight",
    "mlp.in": "layers.{}.mlp.Wi.weight",
    "mlp.out": "layers.{}.mlp.Wo.weight",
}

Matrix = NDArray[np.float32]
LayerSlot = tuple[int, str]
"""A layer, counted from 0 at the bottom, and a key of PLACES."""


class DeltaError(ValueError):
    """The file cannot be used, or not with this trunk; the message says why."""


@dataclass(frozen=True)
class Delta:
    trunk_sha256: str
    """Of the `model.safetensors` that it was trained on: on other weights it is noise."""
    rank: int
    """Of the matrices, at most."""
    fork: int
    """0: it changes the trunk itself. N: it was trained for a copy of the top N layers, which heads alone read."""
    matrices: dict[LayerSlot, tuple[Matrix, Matrix]]
    """A [rank, in] and B [out, rank]"""
    training: dict[str, Any] = field(default_factory=dict)
    """How it was made: data files with rows and checksums, settings, versions."""


def load(path: Path, trunk_sha256: str, fork: int = 0) -> Delta:
    """Read a delta for the trunk with these weights, used with this `fork`.

    Raises DeltaError when the file is no delta of this format, belongs to other weights, was trained for another fork,
    or holds a matrix that has the wrong shape, lacks its other half or is not finite.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise DeltaError(f"{path}: {error}") from error
    if metadata.get("format") != FORMAT:
        raise DeltaError(f"{path}: format {metadata.get('format')!r}, expected {FORMAT!r}")
    try:
        delta = Delta(
            trunk_sha256=metadata["trunk_sha256"],
            rank=int(metadata["rank"]),
            fork=int(metadata["fork"]),
            matrices=_paired(tensors),
            training=json.loads(metadata["training"]),
        )
        _check(delta)
    except KeyError as error:
        raise DeltaError(f"{path}: its metadata has no {error}") from error
    except ValueError as error:
        raise DeltaError(f"{path}: {error}") from error
    if delta.trunk_sha256 != trunk_sha256:
        raise DeltaError(
            f"{path}: was trained on weights with sha256 {delta.trunk_sha256}, the trunk's are {trunk_sha256}"
        )
    if delta.fork != fork:
        raise DeltaError(f"{path}: was trained with `fork: {delta.fork}`, the manifest says `fork: {fork}`")
    return delta


def save(delta: Delta, path: Path) -> None:
    """Write the matrices in half precision.

    Raises DeltaError for a delta that `load` would refuse, and for one over LIMIT.
    """
    from safetensors.numpy import save as serialised

    tensors = {}
    for (layer, kind), pair in sorted(delta.matrices.items()):
        for side, matrix in zip("ab", pair, strict=True):
            with np.errstate(over="ignore"):  # `_check` says it with the name of the matrix.
                tensors[f"layer.{layer}.{kind}.{side}"] = np.asarray(matrix, np.float16, order="C")
    metadata = {
        "format": FORMAT,
        "trunk_sha256": delta.trunk_sha256,
        "rank": str(delta.rank),
        "fork": str(delta.fork),
        "training": json.dumps(delta.training, ensure_ascii=False, sort_keys=True),
    }
    try:
        _check(Delta(delta.trunk_sha256, delta.rank, delta.fork, _paired(tensors)))
    except ValueError as error:
        raise DeltaError(f"{path}: {error}") from error
    content = _steady(serialised(tensors, metadata))
    if len(content) > LIMIT:
        raise DeltaError(f"{path}: {len(content)} bytes, {LIMIT} at most; take a lower rank than {delta.rank}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def merged(weights: Mapping[str, Matrix], delta: Delta) -> dict[str, Matrix]:
    """The trunk's tensors (names as in its `model.safetensors`), W + B·A in place of each W that the delta changes.

    Raises DeltaError for a layer that the trunk does not have, or that has another shape there.
    """
    changed = dict(weights)
    for (layer, kind), (a, b) in delta.matrices.items():
        name = PLACES[kind].format(layer)
        weight = weights.get(name)
        if weight is None:
            raise DeltaError(f"delta of layer.{layer}.{kind}: the trunk has no {name}")
        if weight.shape != (b.shape[0], a.shape[1]):
            shape = [b.shape[0], a.shape[1]]
            raise DeltaError(f"delta of layer.{layer}.{kind} is for {shape}, {name} is {list(weight.shape)}")
        changed[name] = np.asarray(weight, np.float32) + b @ a
    return changed


def check_fork(delta: Delta, layers: int) -> None:
    """Raises DeltaError where a trunk of so many `layers` cannot be forked as the delta wants it."""
    if delta.fork > layers:
        raise DeltaError(f"`fork: {delta.fork}` of a trunk with {layers} layers")
    lowest = min(layer for layer, _ in delta.matrices)
    if delta.fork and lowest < layers - delta.fork:
        raise DeltaError(
            f"the delta changes layer {lowest}, and `fork: {delta.fork}` shares all below {layers - delta.fork}"
        )


def _paired(tensors: Mapping[str, NDArray[Any]]) -> dict[LayerSlot, tuple[Matrix, Matrix]]:
    halves: dict[LayerSlot, dict[str, Matrix]] = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"layer\.(\d+)\.(.+)\.([ab])", name)
        if match is None or match[2] not in PLACES:
            raise ValueError(f"tensor `{name}`: expected layer.N.KIND.a or .b, KIND of {', '.join(PLACES)}")
        halves.setdefault((int(match[1]), match[2]), {})[match[3]] = tensor.astype(np.float32)
    for (layer, kind), sides in halves.items():
        if len(sides) < 2:
            (other,) = {"a", "b"} - sides.keys()
            raise ValueError(f"layer.{layer}.{kind}.{other} is missing")
    return {place: (sides["a"], sides["b"]) for place, sides in halves.items()}


def _check(delta: Delta) -> None:
    if not delta.matrices:
        raise ValueError("there is no matrix in it")
    for (layer, kind), (a, b) in delta.matrices.items():
        name = f"layer.{layer}.{kind}"
        if a.ndim != 2 or b.ndim != 2 or len(a) != b.shape[1] or len(a) > delta.rank:
            raise ValueError(f"{name} is {list(b.shape)} · {list(a.shape)}, the rank is {delta.rank}")
        for side, matrix in (("a", a), ("b", b)):
            if not np.isfinite(matrix).all():
                raise ValueError(f"{name}.{side} holds NaN or infinity")


def _steady(content: bytes) -> bytes:
    """With the header's keys sorted: the library writes metadata in another order every time, and checksums change."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]

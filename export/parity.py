"""Every flavour of a graph against PyTorch in single precision, on ONNX Runtime."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export import repository
from export.exporter import Exporter, needs_torch
from export.finding import Finding
from export.manifest import ModelSpec
from triton_router.inference.bundle import Trunk
from triton_router.inference.windows import Windows

# Largest difference of a number from PyTorch's in single precision. int8 is judged by accuracy on labelled rows
# (`evaluate`), here it is only measured.
TOLERANCE = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}
# Least share of rows with PyTorch's label, among those where PyTorch is sure by more than a hair.
AGREEMENT = {"fp32": 1.0, "fp16": 0.999, "bf16": 0.99}
SURE = 0.01

TEXTS = (
    "Why is the sky blue?",
    "hi",
    "How do I patch a CVE in OpenSSL? " * 12,
    "Wie hoch ist die Zugspitze, und wer war zuerst oben? Bitte mit Quelle.",
    "def f(x):\n    return x ** 2  # what does this do\n" * 8,
)

Vectors = NDArray[np.float32]
Ids = NDArray[np.int64]


@dataclass
class Parity:
    """One flavour of a graph against PyTorch fp32, over all rows of all batches."""

    model: str
    flavour: str
    rows: int
    batches: list[str]
    difference: dict[str, float]
    """Largest absolute difference by output."""
    agreement: dict[str, float]
    """Share of rows (tokens) with PyTorch's label, by head."""
    cosine: float | None
    """Least cosine of an embedding with PyTorch's."""


class Probe:
    """What a model's graphs are asked, and how its rows are made; needs no PyTorch."""

    def __init__(self, exporter: Exporter, model: ModelSpec) -> None:
        trunk = exporter.trunk(model)
        self.model = model
        self.config = json.loads(exporter.source(model).config.read_text())
        self.outputs = [output.name for output in trunk.outputs]
        self.per_token = {output.name for output in trunk.outputs if output.per_token}
        self.heads = {output.name for output in trunk.outputs if output.labels}
        described = repository.manifest([trunk], {})["trunks"][0]
        self.windows = Windows(Trunk.model_validate(described), exporter.tokenizer(model))


class Reference:
    """The published model in PyTorch, fp32, one row at a time and without any padding, which so cannot leak in."""

    def __init__(self, exporter: Exporter, probe: Probe) -> None:
        from export import network
        from export.use_network import UseNetwork

        needs_torch(f"{probe.model.name} is compared", ("torch", "transformers"))
        published = exporter.published(probe.model)
        self._network: Any
        if probe.model.graph == "use":
            self._network = UseNetwork(probe.model, published.directory).eval()
        else:
            self._network = network.Network(probe.model, published)
        self._windows, self._outputs = probe.windows, probe.outputs
        self._rows: dict[tuple[int, ...], list[Vectors]] = {}

    def row(self, ids: Sequence[int]) -> dict[str, Vectors]:
        """[width] by output, or [tokens, labels] per token."""
        import torch

        key = tuple(int(token) for token in ids)
        if key not in self._rows:
            tokens = torch.tensor([key], dtype=torch.int64)
            with torch.inference_mode():
                self._rows[key] = [output[0].numpy() for output in self._network(tokens, torch.ones_like(tokens))]
        return dict(zip(self._outputs, self._rows[key], strict=True))

    def text(self, text: str) -> dict[str, Vectors]:
        """Of the first window of a text."""
        return self.row(self._windows.rows(text)[0])


def batches(probe: Probe) -> list[list[list[int]]]:
    """Rows of token ids, batch by batch: for each bucket lengths from two tokens to the whole bucket, and those around
    the attention window, whose last token sees other neighbours than its first."""
    model = probe.model
    vocabulary = int(probe.config["vocab_size"])
    window = int(probe.config.get("local_attention") or 0)
    generator = np.random.default_rng(0)
    groups: list[list[list[int]]] = []
    covered: set[int] = set()
    for low, bucket in zip((0, *model.buckets), model.buckets, strict=False):
        # The shortest row, padded by far more than the window, is where half precision turns to NaN.
        around = {2, bucket, (low + bucket) // 2 + 1}
        around |= {edge + step for edge in (window // 2, window, 2 * window) if edge for step in (-1, 0, 1)}
        fitting = sorted(length for length in around if 2 <= length <= min(bucket, model.max_tokens))
        lengths = [[fitting[0], *fitting[1:][1 - max(model.max_batch, 2) :]]]
        covered |= set(lengths[0])
        # What a small batch has no room for, with the longest row beside, which keeps it in this bucket.
        remaining = [length for length in fitting if length not in covered]
        covered |= set(remaining)
        room = max(model.max_batch - 2, 1)
        lengths += [[fitting[0], *remaining[at : at + room], fitting[-1]] for at in range(0, len(remaining), room)]
        groups += [[generator.integers(0, vocabulary, length).tolist() for length in batch] for batch in lengths]
    real = [probe.windows.rows(text)[0] for text in TEXTS]
    groups += [real[start : start + model.max_batch] for start in range(0, len(real), model.max_batch)]
    return groups


def check_graph(probe: Probe, flavour: str, path: Path, reference: Reference | None) -> tuple[Parity, list[Finding]]:
    """One ONNX file against PyTorch, in padded batches of unequal lengths, each row against its own unpadded forward.

    Without ``reference`` only that all numbers are finite.
    """
    model = probe.model
    import onnxruntime as ort

    findings: list[Finding] = []
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own, of many kinds
        return Parity(model.name, flavour, 0, [], {}, {}, None), [Finding(model.name, f"{flavour}: {error}")]
    difference = dict.fromkeys(probe.outputs if reference else [], 0.0)
    agreed: dict[str, list[bool]] = {name: [] for name in (probe.heads if reference else ())}
    cosines, shapes, rows = [], [], 0
    for batch in batches(probe):
        padded = probe.windows.pad(batch)
        shapes.append(f"{padded.ids.shape[0]}x{padded.ids.shape[1]}")
        try:
            values = session.run(probe.outputs, {"input_ids": padded.ids, "attention_mask": padded.mask})
        except Exception as error:  # ONNX Runtime's own, of many kinds
            findings.append(Finding(model.name, f"{flavour}: fails on a batch of {shapes[-1]}: {error}"))
            break
        got = dict(zip(probe.outputs, values, strict=True))
        for index, ids in enumerate(batch):
            rows += 1
            expected = reference.row(ids) if reference else {}
            for name in probe.outputs:
                actual = got[name][index][: len(ids)] if name in probe.per_token else got[name][index]
                if not np.isfinite(actual).all():
                    findings.append(
                        Finding(
                            model.name,
                            f"{flavour}: {name} holds NaN or infinity for a row of {len(ids)} tokens padded to "
                            f"{padded.ids.shape[1]}",
                        )
                    )
                elif name in expected and not np.isfinite(expected[name]).all():
                    # `max` would pass a NaN over, and every comparison with it is false.
                    findings.append(Finding(model.name, f"{name} of PyTorch itself holds NaN or infinity for a row of "
                                            f"{len(ids)} tokens; look at the weights"))  # fmt: skip
                elif name in expected:
                    difference[name] = max(difference[name], float(np.abs(actual - expected[name]).max()))
                    if name in probe.heads:
                        agreed[name] += _agree(np.atleast_2d(expected[name]), np.atleast_2d(actual))
                    else:
                        cosines.append(float(expected[name] @ actual / np.linalg.norm(actual)))
    agreement = {name: float(np.mean(votes)) if votes else 1.0 for name, votes in agreed.items()}
    parity = Parity(model.name, flavour, rows, shapes, difference, agreement, min(cosines) if cosines else None)
    # One message for a graph that is broken everywhere.
    findings = findings[:1]
    if flavour in TOLERANCE and not findings:
        for name, most in difference.items():
            if most > TOLERANCE[flavour]:
                findings.append(Finding(model.name, f"{flavour}: {name} differs from PyTorch by {most:.2g}, "
                                        f"{TOLERANCE[flavour]:g} is allowed"))  # fmt: skip
        for name, share in agreement.items():
            if share < AGREEMENT[flavour]:
                findings.append(Finding(model.name, f"{flavour}: {name} has PyTorch's label in {share:.2%} of rows, "
                                        f"{AGREEMENT[flavour]:.1%} are needed"))  # fmt: skip
    return parity, findings


def _agree(expected: Vectors, actual: Vectors) -> list[bool]:
    """Whether the label is the same, for each row where the expected one leads by ``SURE``."""
    if expected.shape[1] < 2:
        return []
    ranked = np.sort(expected, axis=1)
    sure = ranked[:, -1] - ranked[:, -2] > SURE
    return list(expected.argmax(axis=1)[sure] == actual.argmax(axis=1)[sure])

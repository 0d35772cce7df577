"""A second opinion: Hugging Face's Optimum exports the same weights, and both graphs are asked the same.

Optimum lives in an environment of its own, because it wants an older transformers than the export does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from export import bundle, parity
from export import delta as low_rank
from export.exporter import Exporter, ExportError
from export.manifest import ModelSpec

RESULTS = "cross-check.json"
TOLERANCE = 1e-4
# `mean` sees the states of all tokens, `cls` one of them unblended.
POOLINGS = ("mean", "cls")
_SCRIPT = """
import json, sys
from importlib.metadata import version
from optimum.exporters.onnx import main_export

main_export(sys.argv[1], output=sys.argv[2], task="feature-extraction", library_name="transformers", device="cpu",
            opset=17, do_validation=False, dtype="fp32", local_files_only=True)
print(json.dumps({name: version(name) for name in ("optimum", "optimum-onnx", "transformers", "torch")}))
"""

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Comparison:
    """Largest absolute difference of a number of the embedding, and least cosine, by pooling."""

    model: str
    versions: dict[str, str]
    rows: int
    batches: list[str]
    difference: dict[str, float]
    cosine: dict[str, float]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    python = bundle.ROOT / ".cache" / "environments" / "optimum" / "bin" / "python"
    parser.add_argument("--python", type=Path, default=python, help="of the environment with Optimum")


def run(arguments: argparse.Namespace) -> None:
    cross_check(bundle.exporter(arguments), arguments.python)


def cross_check(exporter: Exporter, python: Path) -> list[Comparison]:
    """Compare every embedder of a bundle with what Optimum makes of it; results beside the build's other files.

    python: of the environment that Optimum is installed in.

    Raises ExportError where it is not, where its export fails, and where the two differ by more than TOLERANCE.
    """
    if not python.is_file():
        raise ExportError(f"no {python}; `make cross-check` makes Optimum's environment and comes back here")
    comparisons = []
    for model in exporter.models:
        if model.task != "embedding" or model.layer is not None:
            exporter.progress(f"{model.name}: left out; whole embedders are comparison")
            continue
        directory = exporter.paths.build / "cross-check" / model.name
        write_source(exporter, model, directory / "source")
        exporter.progress(f"{model.name}: exporting with Optimum")
        versions = _export(python, directory / "source", directory / "optimum")
        comparison = compare(exporter, model, directory / "optimum" / "model.onnx", versions)
        largest, least = max(comparison.difference.values()), min(comparison.cosine.values())
        exporter.progress(
            f"{model.name}: {comparison.rows} rows, largest difference {largest:.2g}, least cosine {least:.6f}"
        )
        comparisons.append(comparison)
    target = exporter.paths.build / RESULTS
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps([asdict(entry) for entry in comparisons], indent=1) + "\n")
    for entry in comparisons:
        if max(entry.difference.values()) > TOLERANCE:
            raise ExportError(f"{entry.model}: Optimum's graph differs by {entry.difference}, {TOLERANCE:g} at most")
    return comparisons


def write_source(exporter: Exporter, model: ModelSpec, directory: Path) -> None:
    """The published files as Optimum's transformers 4 reads them, a delta merged where it changes the embedding."""
    from safetensors.numpy import load_file, save_file

    source = exporter.source(model)
    directory.mkdir(parents=True, exist_ok=True)
    config = json.loads(source.config.read_text())
    (directory / "config.json").write_text(json.dumps(older(config), indent=1))
    (directory / "tokenizer.json").write_bytes(source.tokenizer.read_bytes())
    weights = load_file(source.weights)
    if model.delta is not None and not model.fork:
        weights = low_rank.merged(weights, low_rank.load(model.delta, source.weights_sha256))
    save_file(weights, directory / "model.safetensors", {"format": "pt"})


def older(config: dict[str, Any]) -> dict[str, Any]:
    """``config`` with ModernBERT's rotary settings and kinds of attention under their names of transformers 4, which
    ignores those of version 5 without a word."""
    rope = config.get("rope_parameters") or {}
    names = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}
    renamed = {name: rope[kind]["rope_theta"] for kind, name in names.items() if kind in rope}
    kinds = config.get("layer_types")
    if kinds and "full_attention" in kinds[1:]:
        renamed["global_attn_every_n_layers"] = kinds.index("full_attention", 1)
    return {key: value for key, value in config.items() if key not in ("rope_parameters", "layer_types")} | renamed


def compare(exporter: Exporter, model: ModelSpec, other: Path, versions: dict[str, str]) -> Comparison:
    """Our fp32 graph and ``other``, which gives `last_hidden_state`, in padded batches of unequal lengths."""
    # Heads read the same states; graphs of their own names, so that those that are served stay where they are.
    bare = model.model_copy(update={"heads": ()} | ({"delta": None, "fork": 0} if model.fork else {}))
    ours = {}
    for pooling in POOLINGS:
        variant = bare.model_copy(update={"name": f"{model.name}-{pooling}", "pooling": pooling})
        ours[pooling] = _session(exporter.flavour(variant, "fp32"))
    theirs = _session(other)
    input_names = {item.name for item in theirs.get_inputs()}
    probe = parity.Probe(exporter, bare)
    difference, cosine = dict.fromkeys(POOLINGS, 0.0), dict.fromkeys(POOLINGS, 1.0)
    shapes, rows = [], 0
    for batch in parity.batches(probe):
        padded = probe.windows.pad(batch)
        inputs = {"input_ids": padded.ids, "attention_mask": padded.mask}
        segments = {"token_type_ids": np.zeros_like(padded.ids)} if "token_type_ids" in input_names else {}
        (states,) = theirs.run(["last_hidden_state"], inputs | segments)
        shapes.append(f"{padded.ids.shape[0]}x{padded.ids.shape[1]}")
        rows += len(batch)
        for pooling, session in ours.items():
            (actual,) = session.run(["embedding"], inputs)
            expected = _pooled(pooling, states, padded.mask)[:, : model.dimension]
            expected = expected / np.linalg.norm(expected, axis=1, keepdims=True)
            # `max` and `min` would pass a NaN over.
            for whose, values in (("ours", actual), ("Optimum's", expected)):
                if not np.isfinite(values).all():
                    raise ExportError(f"{model.name}: {whose} has NaN or infinity in {shapes[-1]}, {pooling} pooling")
            difference[pooling] = max(difference[pooling], float(np.abs(actual - expected).max()))
            cosine[pooling] = min(cosine[pooling], float((actual * expected).sum(axis=1).min()))
    return Comparison(model.name, versions, rows, shapes, difference, cosine)


def _pooled(kind: str, states: Vectors, mask: NDArray[np.int64]) -> Vectors:
    if kind == "cls":
        return states[:, 0]
    column = mask[:, :, None].astype(np.float32)
    return np.asarray((states * column).sum(axis=1) / column.sum(axis=1), np.float32)


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _export(python: Path, source: Path, target: Path) -> dict[str, str]:
    command = [str(python), "-c", _SCRIPT, str(source.resolve()), str(target.resolve())]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, env=environment)
    if finished.returncode != 0:
        raise ExportError(f"Optimum failed on {source}:\n{finished.stderr.strip()[-2000:]}")
    versions: dict[str, str] = json.loads(finished.stdout.strip().splitlines()[-1])
    return versions

"""The export report: what `verify` and `perf_analyzer` measured, as a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.parity import TEXTS, TOLERANCE
from export.pipeline import ExportError
from export.report import table

CURVE = "triton-curve.png"


def write(results: Sequence[Path], perf: Path | None, page: Path, note: str | None = None) -> None:
    """Write ``page`` from `verify.json` files and the folder of a `perf triton` run, its picture in assets/ beside it.

    Raises ExportError when a file is not there, and where `verify` found something wrong: the page says all is well.
    """
    try:
        found = [json.loads(path.read_text()) for path in results]
        measured = json.loads((perf / "results.json").read_text()) if perf is not None else None
    except OSError as error:
        raise ExportError(f"{error}; `python -m export verify` and `python -m perf triton` write them") from error
    for path, result in zip(results, found, strict=True):
        if result.get("findings"):
            raise ExportError(f"{path}: verify found: " + "; ".join(result["findings"]))
    picture = None
    if perf is not None and (perf / CURVE).is_file():
        assets = page.parent / "assets"
        assets.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(perf / CURVE, assets / CURVE)
        picture = f"assets/{CURVE}"
    page.write_text(_page(found, measured, picture, note))


def _page(
    results: Sequence[dict[str, Any]], measured: dict[str, Any] | None, picture: str | None, note: str | None
) -> str:
    versions = {name: version for result in results for name, version in result["versions"].items()}
    parts = [
        f"""# Export report

Written by `python -m export report` from what `verify` and `perf_analyzer` left. Versions:
{", ".join(f"{name} {version}" for name, version in versions.items())}.

Accuracy and calibration of the shipped head are in [the model report](model-report.md); here is whether anything was
lost between the published weights and what Triton serves.

## Models

{
            table(
                ["model", "source", "task", "outputs", "CPU", "GPU"],
                [_model(m) for result in results for m in result["models"]],
            )
        }

## Parity with PyTorch

Every row went through PyTorch in fp32 alone and without padding, and through the exported graph on ONNX Runtime in a
padded batch of unequal lengths: two tokens, lengths around the attention window, and the whole bucket, for every
bucket, and {len(TEXTS)} real texts. All numbers were finite. Allowed differences: {_allowed()}; int8 is judged by
accuracy. Same label: among rows where PyTorch's best leads by more than 0.01.

{
            table(
                ["model", "flavour", "rows", "largest difference", "same label", "least cosine"],
                [_parity(entry) for result in results for entry in result["parity"]],
            )
        }
"""
    ]
    rtx = [entry for result in results for entry in result["rtx"]]
    if rtx:
        rows = [
            [e["model"], f"{e['rtx']}, sm{e['target']}", e["profiles"], e["matrix_products"], e["bytes_a_weight"],
             f"{e['seconds']:g}"]
            for e in rtx
        ]  # fmt: skip
        parts.append(f"""
## NVIDIA's parser and builder

The GPU graphs, parsed and compiled ahead of time by TensorRT for RTX, with the profiles of the plans. It needs no GPU
and runs nothing; the plans themselves are TensorRT's and are built on the GPU that serves them.

{table(["model", "builder, target", "profiles", "matrix products by type", "bytes a weight", "seconds"], rows)}
""")
    plans = [plan for result in results for plan in result["plans"]]
    if plans:
        rows = [[p["gpu"], p["tensorrt"], p["precision"], p["optimization_level"], p["seconds"]] for p in plans]
        parts.append(f"\n## Plans\n\n{table(['GPU', 'TensorRT', 'precision', 'level', 'seconds'], rows)}\n")
    else:
        parts.append("\nNo TensorRT plan was built for this report: there was no GPU.\n")
    served = [entry for result in results for entry in result["triton"]]
    if served:
        rows = [
            [e["model"], e["backend"], e["flavour"], f"{e['difference']:.2g}" if "difference" in e else "-",
             ", ".join(f"{count} of {size}" for size, count in e["batch_sizes"].items())]
            for e in served
        ]  # fmt: skip
        parts.append(f"""
## Live Triton

Texts to the ensemble, answers against PyTorch; then 48 requests at once of one bucket, and how many executions of which
batch size Triton counted for them.

{table(["model", "backend", "flavour", "largest difference", "executions by batch size"], rows)}
""")
    if measured is not None:
        rows = [
            [p["model"], p["bucket"], p["loop"], f"{p['load']:g}", p["rate"], p["p50"], p["p90"], p["p99"], p["batch"],
             p["failures"]]
            for p in measured["points"]
        ]  # fmt: skip
        parts.append(f"""
## Latency and throughput

perf_analyzer, {measured["machine"]}, configuration `{measured["config"]}`. Load: requests in flight, or arrivals a
second (Poisson) in an open loop. Milliseconds.{" " + note if note else ""}

{table(["model", "tokens", "loop", "load", "requests/s", "p50", "p90", "p99", "batch", "failures"], rows)}
""")
        if picture:
            parts.append(f"\n![latency over throughput]({picture})\n")
    notes = [note for result in results for note in result["notes"]]
    if notes:
        parts.append("\n## Not measured\n\n" + "\n".join(f"- {note}" for note in notes) + "\n")
    return "".join(parts)


def _allowed() -> str:
    return ", ".join(f"{name} {most:g}" for name, most in TOLERANCE.items())


def _model(model: dict[str, Any]) -> list[Any]:
    outputs = ", ".join(f"`{name}` {width}" for name, width in model["outputs"].items())
    place = model["id"] if "/" in model["id"] and not model["id"].startswith("/") else "random weights"
    if changed := model.get("delta"):
        where = f"a fork of the top {changed['fork']} layers" if changed["fork"] else "all layers"
        place += f", delta of rank {changed['rank']} on {where}"
    return [f"`{model['name']}`", place, model["task"], outputs, model["precision"]["cpu"], model["precision"]["gpu"]]


def _parity(entry: dict[str, Any]) -> list[Any]:
    difference = ", ".join(f"{name} {most:.2g}" for name, most in entry["difference"].items()) or "not compared"
    agreement = ", ".join(f"{name} {share:.1%}" for name, share in entry["agreement"].items()) or "-"
    cosine = f"{entry['cosine']:.5f}" if entry["cosine"] is not None else "-"
    return [entry["model"], entry["flavour"], entry["rows"], difference, agreement, cosine]

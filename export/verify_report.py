"""The command `report`: what `verify` and `perf_analyzer` measured, as a page."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export import bundle
from export import page as pages
from export.exporter import ExportError
from export.parity import TEXTS, TOLERANCE

TEMPLATE = Path(__file__).parent / "templates" / "export-report.md.j2"
CURVE = "triton-curve.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    page = bundle.ROOT / "docs" / "export-report.md"
    parser.add_argument("--out", type=Path, default=page, help="page to write")
    parser.add_argument("--results", type=Path, action="append", help="a `verify.json`; default: the build's")
    parser.add_argument("--note", help="note about the run, printed above its latencies")
    parser.add_argument("--perf", type=Path, help="folder of a `python -m perf triton` run")


def run(arguments: argparse.Namespace) -> None:
    write(arguments.results or [arguments.build / "verify.json"], arguments.perf, arguments.out, arguments.note)
    print(f"export: report: {arguments.out}", flush=True)


def write(results: Sequence[Path], perf: Path | None, page: Path, note: str | None = None) -> None:
    """Write ``page`` from `verify.json` files and the folder of a `perf triton` run, with its picture in assets/.

    Raises ExportError when a file is not there, and where `verify` found something wrong: the page says all is well.
    """
    try:
        documents = [json.loads(path.read_text()) for path in results]
        load = json.loads((perf / "results.json").read_text()) if perf is not None else None
    except OSError as error:
        raise ExportError(f"{error}; `python -m export verify` and `python -m perf triton` write them") from error
    for path, document in zip(results, documents, strict=True):
        if document.get("findings"):
            raise ExportError(f"{path}: verify found: " + "; ".join(document["findings"]))
    picture = None
    if perf is not None and (perf / CURVE).is_file():
        assets = page.parent / "assets"
        assets.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(perf / CURVE, assets / CURVE)
        picture = f"assets/{CURVE}"
    page.write_text(_render(documents, load, picture, note))


def _render(
    documents: Sequence[dict[str, Any]], load: dict[str, Any] | None, picture: str | None, note: str | None
) -> str:
    versions = {name: version for document in documents for name, version in document["versions"].items()}
    keys = ("models", "parity", "rtx", "plans", "triton", "notes")
    return pages.render(
        TEMPLATE,
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        texts=len(TEXTS),
        tolerance=TOLERANCE,
        source=_source,
        load=load,
        picture=picture,
        note=note,
        **{key: [entry for document in documents for entry in document[key]] for key in keys},
    )


def _source(model: dict[str, Any]) -> str:
    source: str = model["id"] if "/" in model["id"] and not model["id"].startswith("/") else "random weights"
    if delta := model.get("delta"):
        layers = f"a fork of the top {delta['fork']} layers" if delta["fork"] else "all layers"
        source += f", delta of rank {delta['rank']} on {layers}"
    return source

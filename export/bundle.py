"""Which bundle a command works on: the options that such commands share, and the exporter that they name."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from export import manifest
from export.exporter import Exporter, Paths, check_trainable
from export.manifest import ManifestError, ModelSpec

ROOT = Path(__file__).resolve().parent.parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--manifest", type=Path, default=ROOT / "export" / "models.yaml", help="file that lists the models"
    )
    parser.add_argument("--bundle", default="default", help="which of its bundles (default: %(default)s)")
    parser.add_argument("--precision", choices=("fp32", "int8"), help="on CPU; default: what the manifest says")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="Triton model repository")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "export", help="cache and intermediate files")


def add_model_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", help="which of the bundle's models (default: the first)")


def trainable(exporter: Exporter, arguments: argparse.Namespace) -> ModelSpec:
    """The model that `--model` names.

    Raises ManifestError for one that the bundle lacks, ExportError for one whose states no head can learn from.
    """
    models = {model.name: model for model in exporter.models}
    name = arguments.model or next(iter(models))
    if name not in models:
        raise ManifestError([f"no model `{name}` in bundle `{arguments.bundle}`; there are {', '.join(models)}"])
    check_trainable(models[name])
    return models[name]


def exporter(arguments: argparse.Namespace) -> Exporter:
    """Raises ManifestError for a manifest that cannot be used, or that lacks the bundle."""
    models = manifest.load(arguments.manifest).bundle(arguments.bundle)
    if any(model.graph == "torch" for model in models) and os.environ.get("PYTHONHASHSEED") != "0":
        # PyTorch's exporter walks through sets: with another seed the file is another.
        os.execve(sys.executable, sys.orig_argv, os.environ | {"PYTHONHASHSEED": "0"})
    paths = Paths(arguments.repository, arguments.build, arguments.manifest.parent / "topics.json")
    return Exporter(paths, models, arguments.precision)

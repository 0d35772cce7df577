"""Which bundle a command works on: the options that such commands share, and the exporter that they name."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from export import manifest
from export.exporter import Exporter, Paths

ROOT = Path(__file__).resolve().parent.parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--manifest", type=Path, default=ROOT / "export" / "models.yaml", help="file that lists the models"
    )
    parser.add_argument("--bundle", default="default", help="which of its bundles (default: %(default)s)")
    parser.add_argument("--precision", choices=("fp32", "int8"), help="on CPU; default: what the manifest says")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="Triton model repository")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "export", help="cache and intermediate files")


def exporter(arguments: argparse.Namespace) -> Exporter:
    """Raises ManifestError for a manifest that cannot be used, or that lacks the bundle."""
    models = manifest.load(arguments.manifest).bundle(arguments.bundle)
    if any(model.graph == "torch" for model in models) and os.environ.get("PYTHONHASHSEED") != "0":
        # PyTorch's exporter walks through sets: with another seed the file is another.
        os.execve(sys.executable, sys.orig_argv, os.environ | {"PYTHONHASHSEED": "0"})
    paths = Paths(arguments.repository, arguments.build, arguments.manifest.parent / "topics.json")
    return Exporter(paths, models, arguments.precision)

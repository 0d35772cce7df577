"""The command `onnx`: the graph of every model of a bundle."""

from __future__ import annotations

import argparse

from export import bundle
from export.exporter import Exporter, Platform

PLATFORMS: dict[str, tuple[Platform, ...]] = {
    "cpu": ("cpu",), "gpu": ("gpu",), "both": ("cpu", "gpu"), "torch": ("torch",)
}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)
    parser.add_argument(
        "--for",
        dest="platforms",
        choices=tuple(PLATFORMS),
        default="cpu",
        help="whose graphs; `torch` stands in for plans where TensorRT's builder is missing",
    )


def run(arguments: argparse.Namespace) -> None:
    make(bundle.exporter(arguments), arguments)


def make(exporter: Exporter, arguments: argparse.Namespace) -> None:
    for platform in PLATFORMS[arguments.platforms]:
        exporter.graphs(platform)

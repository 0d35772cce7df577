"""The command `all`: graphs, then the repository around them."""

from __future__ import annotations

import argparse

from export import bundle, make_graphs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    make_graphs.add_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    exporter = bundle.exporter(arguments)
    make_graphs.make(exporter, arguments)
    exporter.write_repository()

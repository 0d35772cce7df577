"""The command `repository`: the files of a model repository that are no graphs."""

from __future__ import annotations

import argparse

from export import bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    bundle.add_arguments(parser)


def run(arguments: argparse.Namespace) -> None:
    bundle.exporter(arguments).write_repository()

"""Commands of a program, each a module with `add_arguments(parser)` and `run(arguments)`.

Only the module of the command that is called is loaded: each needs other packages, and a serving image has few.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """``run`` of the module returns the exit status, or nothing for 0."""

    module: str
    help: str


def run(
    program: str,
    description: str | None,
    commands: Mapping[str, Command],
    words: Sequence[str],
    *,
    shared: Callable[[argparse.ArgumentParser], None] | None = None,
) -> int:
    """Parse ``words`` and run the command that they name; ``shared`` adds the options that all commands have."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    called = next((word for word in words if not word.startswith("-")), None)
    for name, command in commands.items():
        subparser = subparsers.add_parser(name, help=command.help, description=command.help)
        if name == called:
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
            if shared is not None:
                shared(subparser)
            subparser.set_defaults(run=module.run)
    arguments = parser.parse_args(words)
    return int(arguments.run(arguments) or 0)

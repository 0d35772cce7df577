"""Configuration: the schema, and a reader that reports every problem at its line."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triton_router.config.loader import Loaded, load, loads, migrate
    from triton_router.config.report import ConfigError, Problem
    from triton_router.config.schema import Config, leaves
    from triton_router.config.whole_words import inside_words

_HOMES = {
    "Config": "schema",
    "ConfigError": "report",
    "Loaded": "loader",
    "Problem": "report",
    "inside_words": "whole_words",
    "leaves": "schema",
    "load": "loader",
    "loads": "loader",
    "migrate": "loader",
}


def __getattr__(name: str) -> Any:
    # Late: building the schema imports other packages' kinds of signals, which import this package.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = ["Config", "ConfigError", "Loaded", "Problem", "inside_words", "leaves", "load", "loads", "migrate"]

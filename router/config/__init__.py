"""Configuration: the schema, and reading it with every problem reported where it was written."""

from triton_router.config.load import ConfigError, Loaded, Problem, leaves, load, loads, migrate
from triton_router.config.schema import Config

__all__ = ["Config", "ConfigError", "Loaded", "Problem", "leaves", "load", "loads", "migrate"]

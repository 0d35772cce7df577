"""Configuration: the schema, and reading it with every problem reported where it was written."""

from router.config.load import ConfigError, Loaded, Problem, leaves, load, loads, migrate
from router.config.schema import Config

__all__ = ["Config", "ConfigError", "Loaded", "Problem", "leaves", "load", "loads", "migrate"]

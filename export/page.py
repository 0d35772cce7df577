"""Pages and tables that commands write, from Jinja templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: Path, **values: Any) -> str:
    """``template`` with ``values``. Raises UndefinedError for a name that it uses and nobody gives."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"fmt": fmt, "figure": figure}
    return environment.get_template(template.name).render(values)


def fmt(value: Any, spec: str) -> str:
    """``value`` by Python's format specification; "-" where there is none."""
    return "-" if value is None else format(value, spec)


def figure(value: float | None) -> str:
    """Two digits of what was measured, all of what was counted; "-" where there is nothing."""
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)

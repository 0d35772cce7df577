"""Messages as the network of `router/parts` sees them: the keys of their units."""

from __future__ import annotations

from typing import NamedTuple


class Example(NamedTuple):
    """What is seen of a message's units, and which are the prompt's. ``source`` is the wrapper."""

    seen: list[list[str]]
    first: int
    last: int
    source: str


def is_shape(key: str) -> bool:
    """Whether ``key`` is no word."""
    return "=" in key[:4] or key in ("r-", "r+", "upper", "?", "??")

"""A part of a conversation: a text, and what it is."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["words", "material", "context", "history", "template", "tool", "system", "assistant"]
"""`words` are the person's; `material` is what the person pasted to work on; a program added the next three."""


class Part(NamedTuple):
    """A piece of a conversation. ``reason`` says by what it was told apart, ``turn`` where it stands."""

    kind: Kind
    text: str
    reason: str = ""
    turn: int = 0

"""What a check has found wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what to do about it where that is known."""

    model: str
    message: str

    def __str__(self) -> str:
        return f"{self.model}: {self.message}" if self.model else self.message

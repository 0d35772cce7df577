"""One request to the demo backend: the model, what its script asks for, and what is answered."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DemoModel:
    """A model of one port, with its adapters."""

    name: str
    loras: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """What ``x-demo-script`` asks for."""

    chunks: int | None = None
    seconds: float = 0.0
    delay: float = 0.0
    tools: bool = False
    thoughts: bool = False
    status: int | None = None
    reset: int | None = None
    echo: int | None = None

    @classmethod
    def parse(cls, header: str) -> Script:
        """Read the header. Raises ValueError for a value that is no number."""
        pairs = dict(part.strip().split("=", 1) for part in header.split(";") if "=" in part)
        return cls(
            chunks=int(pairs["chunks"]) if "chunks" in pairs else None,
            seconds=float(pairs.get("seconds", 0)),
            delay=float(pairs.get("delay", 0)),
            tools=pairs.get("tools", "0") == "1",
            thoughts=pairs.get("thoughts", "0") == "1",
            status=int(pairs["status"]) if "status" in pairs else None,
            reset=int(pairs["reset"]) if "reset" in pairs else None,
            echo=int(pairs["echo"]) if "echo" in pairs else None,
        )


@dataclass(frozen=True, slots=True)
class Turn:
    """One request that is to be answered."""

    model: str
    body: Json
    script: Script
    demo: Json
    pieces: list[str]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def thoughts(self) -> list[str]:
        return ["Let me ", "think."] if self.script.thoughts else []

    @property
    def prompt_tokens(self) -> int:
        return len(json.dumps(self.body).split())

    @property
    def tool(self) -> str | None:
        tools = self.body.get("tools") or []
        if not self.script.tools or not tools:
            return None
        return str(tools[0].get("function", tools[0]).get("name", "tool"))

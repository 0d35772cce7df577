"""One request to the demo backend: the model, what its script asks for, and what is answered."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DemoModel:
    """A model of one port, with its adapters."""

    name: str
    loras: tuple[str, ...] = ()


class Script(BaseModel):
    """What ``x-demo-script`` asks for."""

    chunks: int | None = None
    seconds: float = 0.0
    delay: float = 0.0
    tools: bool = False
    tool: str | None = None
    arguments: Annotated[str, AfterValidator(lambda text: json.dumps(json.loads(text)))] = ""
    results: int | None = None
    thoughts: bool = False
    status: int | None = None
    reset: int | None = None
    echo: int | None = None

    @classmethod
    def parse(cls, header: str) -> Script:
        """Read the header. Raises ValueError for a value of another type."""
        return cls.model_validate(dict(part.strip().split("=", 1) for part in header.split(";") if "=" in part))


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
        """The tool that is called instead of an answer in text."""
        if not self.script.tools or (self.script.results is not None and self._results() >= self.script.results):
            return None
        offered = [str(tool.get("function", tool).get("name", "tool")) for tool in self.body.get("tools") or []]
        if self.script.tool is None:
            return offered[0] if offered else None
        return self.script.tool if self.script.tool in offered else None

    @property
    def arguments(self) -> str:
        return self.script.arguments or "{}"

    def _results(self) -> int:
        """How many results of tools the conversation has, in whichever API."""
        spoken = self.body.get("messages", self.body.get("input"))
        items = _objects(spoken)
        return sum(map(_is_result, [*items, *(block for item in items for block in _objects(item.get("content")))]))


def _objects(value: Any) -> list[Json]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _is_result(item: Json) -> bool:
    return item.get("role") == "tool" or str(item.get("type")).endswith(("tool_result", "_call_output"))

"""Files that a command leaves in its output folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_results(out: Path, name: str, document: Mapping[str, Any], markdown: str | None = None) -> None:
    """Write ``document`` as ``name``.json into the folder ``out``; ``markdown`` as ``name``.md, and print it."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(document, indent=1))
    if markdown is not None:
        (out / f"{name}.md").write_text(markdown)
        print(markdown, end="")

"""Checksums of files, remembered between runs, and the record of which step was made from what."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Steps:
    """What each step of an export was made from, in one JSON file, so that nothing is made twice.

    A step is fresh when its inputs are the recorded ones and its outputs are the files that it left: same size and
    modification time, which stand for a checksum here because reading 90 MB twice at every start would be felt.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._records: dict[str, Any] = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            self._records = {}

    def fresh(self, step: str, inputs: Mapping[str, Any], outputs: Sequence[Path] = ()) -> bool:
        """``outputs`` that the step did not leave make it stale: it may have been done for another place."""
        record = self._records.get(step)
        if record is None or record["inputs"] != dict(inputs):
            return False
        if not {str(path.resolve()) for path in outputs} <= record["outputs"].keys():
            return False
        return all(_state(Path(path)) == state for path, state in record["outputs"].items())

    def done(self, step: str, inputs: Mapping[str, Any], outputs: Sequence[Path], result: Any = None) -> None:
        states = {str(path.resolve()): _state(path) for path in outputs}
        self._records[step] = {"inputs": dict(inputs), "outputs": states, "result": result}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._records, indent=1, sort_keys=True))
        partial.replace(self._path)

    def result(self, step: str) -> Any:
        """What the step said when it was done (JSON)."""
        return self._records[step]["result"]


def _state(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return [status.st_size, status.st_mtime_ns]

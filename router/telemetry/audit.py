"""The audit log: one JSON object a line for each routed request, with the decision and its reasons."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import orjson

log = logging.getLogger(__name__)


class AuditLog:
    """Appends to ``path``. Several processes may append to one file: a line is written in one piece."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def write(self, record: dict[str, Any]) -> bool:
        """Append ``record``. Returns whether that worked; of failures in a row the first is logged."""
        line = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE, default=str)
        try:
            if self._file < 0:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            os.write(self._file, line)
        except OSError as error:
            if self._file != -2:
                log.error("audit records are lost", extra={"fields": {"reason": error.strerror}})
            self._close()
            self._file = -2
            return False
        return True

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    def __del__(self) -> None:
        self._close()

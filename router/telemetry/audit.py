"""The audit log: one JSON object a line for each routed request, with the decision and its reasons."""

from __future__ import annotations

import errno
import logging
import os
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path
from typing import Any

from triton_router.jsontext import json_bytes

log = logging.getLogger(__name__)


class AuditLog:
    """Appends whole lines to ``path``. Several processes may append to one file, and others may rotate it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._lost = False

    def write(self, record: dict[str, Any]) -> bool:
        """Append ``record``. Returns whether that worked; of failures in a row the first is logged."""
        line = json_bytes(record, str) + b"\n"
        try:
            self._open()
            self._append(line)
        except OSError as error:
            if not self._lost:
                log.error("audit records are lost", extra={"fields": {"reason": error.strerror}})
            self._lost = True
            self._close()
            return False
        self._lost = False
        return True

    def _open(self) -> None:
        """Open the file; again where its name has come to mean another one."""
        if self._file >= 0:
            try:
                there = self._path.stat()
            except FileNotFoundError:
                self._close()
            else:
                here = os.fstat(self._file)
                if (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino):
                    self._close()
        if self._file < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _append(self, line: bytes) -> None:
        """A full disk takes half a line; the lock keeps others from writing behind it before it is cut off again."""
        flock(self._file, LOCK_EX)
        try:
            size = os.fstat(self._file).st_size
            if os.write(self._file, line) < len(line):
                # What follows a short write is an error, on a disk at least.
                os.ftruncate(self._file, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            flock(self._file, LOCK_UN)

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def __del__(self) -> None:
        self._close()

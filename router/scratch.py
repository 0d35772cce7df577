"""A directory for temporary files that goes with the process that has it, however that ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import TextIO

# A file in it, which the owner holds locked: the kernel lets go of it with the process.
# No name that others use: a directory with such a file in it is taken away.
_PREFIX, _LOCK = "triton-router-", ".own-directory-lock"


@contextmanager
def own_directory() -> Iterator[Path]:
    """A new directory that nobody else can enter, gone at the end.

    Those that killed processes of the same user have left are taken away first.
    """
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        # Somebody else's, one in use, or one that somebody else is just taking away.
        with contextlib.suppress(OSError):
            _take_away(path)
    directory, lock = _claimed()
    with lock:
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _take_away(path: Path) -> None:
    """Raises OSError where its owner lives, or it is no directory of ours."""
    if path.is_symlink() or path.stat().st_uid != os.getuid():
        return
    with (path / _LOCK).open("r+") as lock:
        flock(lock, LOCK_EX | LOCK_NB)
        shutil.rmtree(path)


def _claimed() -> tuple[Path, TextIO]:
    """A new directory, and its lock, held."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = (directory / _LOCK).open("w")
        with contextlib.suppress(BlockingIOError):
            flock(lock, LOCK_EX | LOCK_NB)
            # Until now it looked like a dead one's to a process that starts at the same time.
            if (directory / _LOCK).is_file():
                return directory, lock
        lock.close()

"""Memory that the processes of a host share: a file that each of them maps."""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
from pathlib import Path

log = logging.getLogger(__name__)


def mapped(path: str | None, size: int) -> mmap.mmap:
    """``size`` bytes of the file ``path``, which grows to them; without a path they are this process's alone.

    So they are where the file may not grow (RLIMIT_FSIZE): processes then know less of each other, and serve.
    """
    if path is not None:
        try:
            with Path(path).open("r+b", buffering=0) as file:
                if os.fstat(file.fileno()).st_size < size:
                    os.ftruncate(file.fileno(), size)
                return mmap.mmap(file.fileno(), size)
        except OSError as error:
            log.warning("processes share nothing", extra={"fields": {"reason": error.strerror}})
    return mmap.mmap(-1, size)


def key(name: str) -> int:
    """A number of 64 bits, never 0, that stands for ``name`` in all processes."""
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") or 1

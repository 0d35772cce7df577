"""The C library's heap: memory that is free goes back to the system."""

from __future__ import annotations

import ctypes

# A parameter of `mallopt`, as in glibc's malloc.h.
_MMAP_THRESHOLD = -3
# Blocks of this size and more are mapped each by itself, and unmapped when they are freed.
_MAPPED_BYTES = 256 * 1024


def return_large_blocks() -> None:
    """Have each large block go back to the system as soon as it is freed.

    Otherwise the library raises its own threshold to the largest block that was ever freed, and then cuts bodies of
    megabytes from arenas, where a small block behind them keeps all of them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MAPPED_BYTES)


def trim() -> None:
    """Give memory that is free back to the system: the C library keeps what was taken once."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

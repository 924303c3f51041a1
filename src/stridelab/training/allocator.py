"""How freed memory is kept for the next step."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""
KEPT_BYTES, LARGEST_BYTES = 2**31 - 1, 2**30


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees, for the rest of the process. By default it hands large blocks back to the
    system and gets them again page by page in every step: a fifth of a step's time (docs/speed.md)."""
    with suppress(OSError, AttributeError):  # another C library has no mallopt
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)

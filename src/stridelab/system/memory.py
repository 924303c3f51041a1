"""Memory of this process: its peak, and what is kept of what it frees."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

MIB = 2**20
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
NOISE_MIB = 8.0
"""Linux counts pages in batches a thread."""
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From glibc's malloc.h."""
KEPT_BYTES, LARGEST_BYTES = 2**31 - 1, 2**30


def keep_freed_memory() -> None:
    """Let glibc keep what a step frees, for the rest of the process. By default it hands large blocks back to the
    system and gets them again page by page in every step: a fifth of a step's time (docs/speed.md). Other C libraries
    have no such setting."""
    with suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_BYTES)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def give_back_freed_memory() -> None:
    """To the system, where the C library is glibc."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def reset_peak() -> bool:
    """Set the process's high-water mark to its present size: Linux, `5` to clear_refs (man 5 proc). Whether that
    worked: a sandbox may take the write and do nothing, other systems have no such thing."""
    try:
        CLEAR_REFS.write_text("5")
        return status_mib("VmHWM") - status_mib("VmRSS") < NOISE_MIB
    except (OSError, KeyError):
        return False


def status_mib(field: str) -> float:
    """A field of Linux's /proc/self/status, such as `VmRSS`, in MiB. OSError elsewhere."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def peak_mib() -> float:
    """The most resident memory that this process has had since it began, in MiB; where no system call says that, what
    it has now."""
    try:
        import resource
    except ImportError:
        import psutil  # type: ignore[import-untyped]

        now = psutil.Process().memory_info()
        return float(getattr(now, "peak_wset", now.rss)) / MIB
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024


def available_mib() -> int:
    """Of this machine, what processes can get without others losing theirs."""
    import psutil

    return int(psutil.virtual_memory().available) // MIB


def total_mib() -> int:
    """Of this machine."""
    import psutil

    return int(psutil.virtual_memory().total) // MIB

"""Peak memory of this process and of its device during a run."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

MIB = 2**20
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class PeakMemory:
    """Levels at the start of a run; `reset` says whether the system let us start the peak afresh."""

    rss_before_mib: float
    reset: bool

    @classmethod
    def start(cls) -> PeakMemory:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        reset = reset_peak_rss()
        return cls(rss_before_mib=status_mib("VmRSS") if reset else 0.0, reset=reset)

    def metrics(self) -> dict[str, float]:
        """Peak resident memory above the level at the start (of the whole process where it could not be reset)."""
        peak = status_mib("VmHWM") if self.reset else process_peak_mib()
        found = {"memory/peak_rss_mib": peak - self.rss_before_mib}
        if torch.cuda.is_available():
            found["memory/peak_device_mib"] = torch.cuda.max_memory_allocated() / MIB
        return found


def reset_peak_rss() -> bool:
    """Set the process's high-water mark to its present size: Linux, `5` to clear_refs (man 5 proc)."""
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def status_mib(field: str) -> float:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def process_peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024

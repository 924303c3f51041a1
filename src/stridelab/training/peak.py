"""Peak memory of this process and of its device during a run."""

from __future__ import annotations

import ctypes
import gc
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

MIB = 2**20
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
NOISE_MIB = 8.0
"""The kernel counts pages in batches a thread."""
OF_THE_RUN = "of the run: above the level before it"
BOUND = "a bound: the peak of the whole process since it started"
"""What `memory/peak_rss_mib` is, in the tag `stridelab.peak_rss`."""


@dataclass(frozen=True)
class PeakMemory:
    """Levels at the start of a run; `reset` says whether the system let us start the peak afresh."""

    rss_before_mib: float
    reset: bool
    device: torch.device

    @classmethod
    def start(cls, device: torch.device) -> PeakMemory:
        forget_former_runs()
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        reset = reset_peak_rss()
        return cls(rss_before_mib=status_mib("VmRSS") if reset else 0.0, reset=reset, device=device)

    def metrics(self) -> dict[str, float]:
        """`memory/peak_rss_mib` is what `meaning` says; `memory/peak_device_mib` is the allocator's, on a GPU."""
        peak = status_mib("VmHWM") if self.reset else process_peak_mib()
        found = {"memory/peak_rss_mib": peak - self.rss_before_mib}
        if self.device.type == "cuda":
            found["memory/peak_device_mib"] = torch.cuda.max_memory_allocated(self.device) / MIB
        return found

    @property
    def meaning(self) -> str:
        return OF_THE_RUN if self.reset else BOUND


def forget_former_runs() -> None:
    """Give back what runs before this one, in the same process, left to be reused: a run that is handed used memory
    would seem to need none. A process's first run does without: collecting takes a fifth of a second."""
    if _runs:
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        with suppress(OSError, AttributeError):  # where the C library is not glibc
            ctypes.CDLL(None).malloc_trim(0)
    _runs.append(None)


_runs: list[None] = []
"""As many as have begun in this process."""


def reset_peak_rss() -> bool:
    """Set the process's high-water mark to its present size: Linux, `5` to clear_refs (man 5 proc). Whether that
    worked: a sandbox may take the write and do nothing."""
    try:
        CLEAR_REFS.write_text("5")
        return status_mib("VmHWM") - status_mib("VmRSS") < NOISE_MIB
    except (OSError, KeyError):
        return False


def status_mib(field: str) -> float:
    for line in STATUS.read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def process_peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MIB if sys.platform == "darwin" else peak / 1024

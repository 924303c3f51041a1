"""Memory of a run: its peak, here and on its device, and what autograd keeps for the backward pass."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call

from stridelab.models.tracing.costs import SavedTensors
from stridelab.system.memory import MIB, give_back_freed_memory, peak_mib, reset_peak, status_mib

from .runtime import autocast


def measured_saved_bytes(module: nn.Module, batch_shape: Sequence[int], *, precision: str = "32-true") -> int:
    """Bytes that autograd keeps of a forward pass over a batch of `batch_shape` (n, c, h, w), loss left out.

    Runs the pass for real, in the mode and on the device of the module, mixed precision as `trainer.precision` has
    it; running statistics and the random state stay as they were. Each storage counts once; parameters and buffers
    do not count.
    """
    weight = next(module.parameters())
    images = torch.zeros(tuple(batch_shape), dtype=weight.dtype, device=weight.device)
    copies = {name: buffer.clone() for name, buffer in module.named_buffers()}
    saved = SavedTensors([*module.parameters(), *copies.values()])
    devices = [weight.device] if weight.is_cuda else []
    mixed = autocast(precision, weight.device)
    with torch.random.fork_rng(devices), torch.enable_grad(), mixed, saved.watch():
        functional_call(module, copies, (images,))
    return saved.total_bytes


OF_THE_RUN = "of the run: above the level before it"
BOUND = "a bound: the peak of the whole process since it started"
TOGETHER = "a bound: the peak of a process that trained {} runs together"
"""What `memory/peak_rss_mib` is, in the tag `stridelab.peak_rss`."""


@dataclass(frozen=True)
class PeakMemory:
    """Levels at the start of a run; `reset` says whether the system let us start the peak afresh."""

    rss_before_mib: float
    reset: bool
    device: torch.device
    runs: int = 1
    """That train in this process at the same time."""

    @classmethod
    def start(cls, device: torch.device, *, runs: int = 1) -> PeakMemory:
        forget_former_runs()
        if device.type == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]  # before it, there are no statistics to reset
            torch.cuda.reset_peak_memory_stats(device)
        reset = reset_peak()
        return cls(rss_before_mib=status_mib("VmRSS") if reset else 0.0, reset=reset, device=device, runs=runs)

    def metrics(self) -> dict[str, float]:
        """`memory/peak_rss_mib` is what `meaning` says; `memory/peak_device_mib` is the allocator's, on a GPU."""
        peak = status_mib("VmHWM") if self.reset else peak_mib()
        found = {"memory/peak_rss_mib": peak - self.rss_before_mib}
        if self.device.type == "cuda":
            found["memory/peak_device_mib"] = torch.cuda.max_memory_allocated(self.device) / MIB
        return found

    @property
    def meaning(self) -> str:
        if self.runs > 1:
            return TOGETHER.format(self.runs)
        return OF_THE_RUN if self.reset else BOUND


def forget_former_runs() -> None:
    """Give back what runs before this one, in the same process, left to be reused: a run that is handed used memory
    would seem to need none. A process's first run does without: collecting takes a fifth of a second."""
    if _runs:
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        give_back_freed_memory()
    _runs.append(None)


_runs: list[None] = []
"""As many as have begun in this process."""

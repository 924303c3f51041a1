"""What training keeps in memory, measured."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.func import functional_call

from stridelab.models.tracing.costs import SavedTensors

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

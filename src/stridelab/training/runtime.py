"""How the passes of a network are run: compiled, and in the precision of `trainer.precision`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """What Lightning does around a training step, for passes that it does not make."""
    if precision not in AUTOCAST:
        return nullcontext()
    return torch.autocast(device.type, AUTOCAST[precision])


def compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """`network.forward`, compiled for one shape of batch on its first call. Parameters, their names and all other
    uses of the network stay as they are. What is compiled is kept in PyTorch's own cache on disk
    (TORCHINDUCTOR_CACHE_DIR), where the other runs of a sweep find it."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes beside a run's own
    torch.compiler.reset()  # PyTorch compiles one function for eight networks a process, and then silently no more
    return torch.compile(network.forward, dynamic=False)

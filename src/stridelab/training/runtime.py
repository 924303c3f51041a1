"""How a process computes: threads, device, precision, compilation; whether it trains or measures."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from stridelab.system.memory import keep_freed_memory

from . import ranks
from .settings import TrainerConfig

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def prepare_process(config: TrainerConfig) -> None:
    """For everything that trains or measures."""
    torch.set_num_threads(config.threads)
    allow_tf32(allowed=config.tf32)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as Lightning does; without it cuBLAS has no such form
    torch.use_deterministic_algorithms(config.deterministic)
    keep_freed_memory()
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)  # its hints and advertisements are not for a run's log
    # Lightning 2.6 asks PyTorch in a way that PyTorch 2.14 deprecates, many times a run; nobody who trains can mend it.
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    warnings.filterwarnings("ignore", ".*`srun` command is available")  # nor is a cluster's where a run is not its job
    # Filling fresh memory with NaN is for debugging; it costs a write of every buffer.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def allow_tf32(*, allowed: bool) -> None:
    """PyTorch's own default allows it in convolutions and not in matrix products: a 1x1 convolution and a linear layer
    would differ. Set through the older of PyTorch's two interfaces: once `fp32_precision` of one kind of operation was
    set, `torch.get_float32_matmul_precision`, which Lightning 2.6 calls on every such GPU, raises RuntimeError
    (PyTorch 2.11 and 2.14)."""
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def device_of(config: TrainerConfig) -> torch.device:
    """Where the images stay: this rank's device of the accelerator."""
    if config.accelerator in ("gpu", "auto") and torch.cuda.is_available():
        return torch.device("cuda", ranks.number())
    return torch.device("mps" if config.accelerator == "mps" else "cpu")


def dtype_of(config: TrainerConfig) -> torch.dtype:
    """Of weights and images; mixed precision casts them within a pass."""
    return torch.float64 if config.precision == "64-true" else torch.float32


def layout_of(config: TrainerConfig) -> torch.memory_format:
    return torch.channels_last if config.channels_last else torch.contiguous_format


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    if precision not in AUTOCAST:
        return nullcontext()
    on_cpu = device.type == "cpu"  # where Lightning, too, takes bfloat16 for float16
    return torch.autocast(device.type, torch.bfloat16 if on_cpu else AUTOCAST[precision])


def compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """`network.forward`, compiled for one shape of batch on its first call. Parameters, their names and all other
    uses of the network stay as they are. What is compiled is kept in PyTorch's own cache on disk
    (TORCHINDUCTOR_CACHE_DIR), where the other runs of a sweep find it."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # no pool of processes beside a run's own
    torch.compiler.reset()  # PyTorch compiles one function for eight networks a process, and then silently no more
    return torch.compile(network.forward, dynamic=False)

"""What PyTorch finds on this machine; asked in a child process, which alone begins CUDA, or hangs in its driver."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stridelab.system.gpus import VISIBLE, Gpu
from stridelab.system.memory import MIB

Progress = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Devices:
    torch: str
    """Its version."""
    gpus: int
    mps: bool


def devices(*, progress: Progress) -> Devices:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Devices(str(torch.__version__), gpus, torch.backends.mps.is_available())


def gpus_of_torch(*, progress: Progress) -> list[Gpu]:
    """What nvidia-smi would say, in a second: a context is made on each."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cards = (os.environ.get(VISIBLE) or ",".join(map(str, range(count)))).split(",")
    return [
        Gpu(card.strip(), torch.cuda.get_device_name(at), torch.cuda.mem_get_info(at)[0] // MIB)
        for at, card in zip(range(count), cards, strict=False)
    ]

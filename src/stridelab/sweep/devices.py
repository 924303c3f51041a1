"""What PyTorch finds on this machine; asked in another process, which alone begins CUDA, or hangs in its driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stridelab.system.gpus import VISIBLE, Gpu
from stridelab.system.memory import MIB

Progress = Callable[[Mapping[str, Any]], None]
ANSWER_S = 120.0
PROGRAM = """
import json, torch
gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
print(json.dumps({"torch": str(torch.__version__), "gpus": gpus, "mps": torch.backends.mps.is_available()}))
"""


@dataclass(frozen=True)
class Devices:
    torch: str
    """Its version."""
    gpus: int
    mps: bool


def found_devices() -> Devices:
    """ValueError with the reason why there is no answer."""
    try:
        said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        raise ValueError(f"no answer in {ANSWER_S:.0f} s") from None
    if said.returncode:
        reason = said.stderr.strip().rpartition("\n")[2] or f"exit code {said.returncode}"
        raise ValueError(reason)
    return Devices(**json.loads(said.stdout.splitlines()[-1]))


def gpus_of_torch(*, progress: Progress) -> list[Gpu]:
    """What nvidia-smi would say, in a second: a context is made on each."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cards = (os.environ.get(VISIBLE) or ",".join(map(str, range(count)))).split(",")
    return [
        Gpu(card.strip(), torch.cuda.get_device_name(at), torch.cuda.mem_get_info(at)[0] // MIB)
        for at, card in zip(range(count), cards, strict=False)
    ]

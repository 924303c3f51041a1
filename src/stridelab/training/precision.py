"""`trainer.precision` outside Lightning: what is measured of a network is measured as it trains."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    if precision not in AUTOCAST:
        return nullcontext()
    return torch.autocast(device.type, AUTOCAST[precision])

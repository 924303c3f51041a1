"""Where a section is measured: `device=cpu` or `device=cuda`."""

from __future__ import annotations


def is_gpu(device: str) -> bool:
    """ValueError where it is neither, or no GPU is here."""
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device={device} is not one of its choices; choose one of cpu, cuda.")
    if device == "cpu":
        return False
    import torch

    if not torch.cuda.is_available():
        raise ValueError("device=cuda: PyTorch finds no GPU on this machine; choose device=cpu.")
    return True

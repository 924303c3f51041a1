"""NVIDIA's cards of this machine, asked of nvidia-smi: no library of CUDA's is loaded into this process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

VISIBLE = "CUDA_VISIBLE_DEVICES"
FIELDS = ("uuid", "memory.free", "mig.mode.current", "name")
ANSWER_S = 20.0
"""A driver that nobody has used for a while takes seconds to start."""


@dataclass(frozen=True)
class Gpu:
    card: str
    """What CUDA_VISIBLE_DEVICES says to mean this one."""
    name: str
    free_mib: int


def visible_gpus() -> list[Gpu] | None:
    """Those that CUDA_VISIBLE_DEVICES leaves, in its order; None where nvidia-smi does not say, or speaks of other
    devices than CUDA: parts of a card (MIG), or unlike cards, which the two number in different ways."""
    command = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    gpus = read(said)
    return gpus if gpus is None else chosen(gpus, os.environ.get(VISIBLE))


def read(said: str) -> list[Gpu] | None:
    found = []
    for line in said.splitlines():
        uuid, free, mig, name = (field.strip() for field in line.split(",", len(FIELDS) - 1))
        if not free.isdigit() or mig == "Enabled":
            return None
        found.append(Gpu(uuid, name, int(free)))
    return found


def chosen(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu] | None:
    """As CUDA reads the variable: numbers and the beginnings of UUIDs, up to the first that means none."""
    if visible is None:
        return [*gpus]
    found: list[Gpu] = []
    for word in (word.strip() for word in visible.split(",")):
        if word.startswith("MIG"):
            return None
        if word.isdigit():
            if len({gpu.name for gpu in gpus}) > 1:
                return None
            meant = [*gpus[int(word) : int(word) + 1]]
        else:
            meant = [gpu for gpu in gpus if word and gpu.card.startswith(word)]
        if len(meant) != 1:
            break
        found += meant
    return found

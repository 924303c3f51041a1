"""What a run says when a GPU has no memory left for it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

TOLD = re.compile(
    r"Tried to allocate ([\d.]+ \w+)\..*?total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free", re.S
)


@contextmanager
def shortage_told() -> Iterator[None]:
    """MemoryError with how much was wanted, what was free, and what to do, in the place of PyTorch's error."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise MemoryError(advice(str(error))) from error


def advice(said: str) -> str:
    found = TOLD.search(said)
    what = "{} were wanted, and of {} {} were free".format(*found.groups()) if found else " ".join(said.split())[:200]
    return f"out of memory on the GPU: {what}; lower trainer.batch_size, or sweep.jobs where other runs shared it"

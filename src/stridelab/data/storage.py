"""Where pixels lie: in memory, or in a file that is mapped into it; both give rows as uint8 [n, c, h, w]."""

from __future__ import annotations

import mmap
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KEPT_BYTES = 4 << 20
"""Read of a mapped file before its pages are let go; the system's own cache keeps them. Linux maps up to 64 KiB
around each page that is touched, so rows here and there count several times."""


class Mapped:
    """Images uint8 [n, height, width, channels] in a file, read where they are asked for.

    Pages that were read count in the resident memory of the process, so they are let go every now and then: it stays
    small however large the file. Who cuts the file off while it is mapped kills the process (SIGBUS); we never do, a
    new cache is a new file.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.shape = shape
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._pixels = np.frombuffer(self._map, np.uint8).reshape(shape)
        self._read_bytes = 0

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: slice | Tensor) -> Tensor:
        """A copy, uint8 [n, channels, height, width], channels last in memory."""
        taken = self._pixels[rows].copy() if isinstance(rows, slice) else self._pixels.take(rows.numpy(), axis=0)
        self._read_bytes += taken.nbytes
        if self._read_bytes > KEPT_BYTES:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._read_bytes = 0
        return torch.from_numpy(taken).permute(0, 3, 1, 2)


def in_memory(pixels: NDArray[np.uint8]) -> Tensor:
    """`pixels` [n, h, w, c] as [n, c, h, w], not copied. What was read may be read-only, which torch cannot express
    and warns of; nobody writes to a data set."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def take(storage: Tensor | Mapped, rows: slice | Tensor) -> Tensor:
    """uint8 [n, c, h, w], channels last in memory when the storage is."""
    if isinstance(storage, Mapped):
        return storage.take(rows)
    if isinstance(rows, slice):
        return storage[rows]
    return storage.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)

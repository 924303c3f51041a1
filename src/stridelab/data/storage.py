"""Where pixels lie: in memory, or in a file; both give rows as uint8 [n, c, h, w]."""

from __future__ import annotations

import math
import warnings
import weakref
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class OnDisk:
    """Images uint8 [n, height, width, channels] in a file, read where they are asked for: from the system's own cache
    when it has them. Not mapped: Linux maps up to 2 MiB around each page that is touched, and all of it would count
    in the resident memory of the process.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.path, self.shape = path, shape
        self._file = path.open("rb", buffering=0)
        weakref.finalize(self, self._file.close)
        self._place = Lock()
        self._row_bytes = math.prod(shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: slice | Tensor) -> Tensor:
        """A copy, uint8 [n, channels, height, width], channels last in memory. OSError when the file ends too soon."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            taken = np.empty((max(0, stop - start), *self.shape[1:]), np.uint8)
            self._read(taken, start)
        else:
            taken = np.empty((len(rows), *self.shape[1:]), np.uint8)
            for image, row in zip(taken, rows.tolist(), strict=True):
                self._read(image, row)
        return torch.from_numpy(taken).permute(0, 3, 1, 2)

    def _read(self, into: NDArray[np.uint8], row: int) -> None:
        left = into.reshape(-1).data
        with self._place:  # Windows has no pread: the file's position is shared
            self._file.seek(row * self._row_bytes)
            while left:
                count = self._file.readinto(left)
                if not count:
                    raise OSError(f"{self.path} ends before image {row + 1} of {len(self)}")
                left = left[count:]


def in_memory(pixels: NDArray[np.uint8]) -> Tensor:
    """`pixels` [n, h, w, c] as [n, c, h, w], not copied. What was read may be read-only, which torch cannot express
    and warns of; nobody writes to a data set."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def take(storage: Tensor | OnDisk, rows: slice | Tensor) -> Tensor:
    """uint8 [n, c, h, w], channels last in memory when the storage is."""
    if isinstance(storage, OnDisk):
        return storage.take(rows)
    if isinstance(rows, slice):
        return storage[rows]
    return storage.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)

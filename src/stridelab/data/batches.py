"""Batches for training and evaluation, gathered from uint8 images that lie decoded: no work per image in Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .augment import Moves, moved
from .splits import Split
from .storage import OnDisk

DEVICE_SHARE = 0.5
"""Of a GPU's free memory that the images of one split may take; more is sent batch by batch."""


class Batches:
    """Yields (images float32 [b, c, h, w], targets [b, ...]: labels int64 [b] unless given), the images to the bit
    as ToTensor and Normalize give them.

    Images stay uint8, in the memory of `device` where there is room; only a batch at a time is ever float. Without
    `order`, the order is that of the split. `order(epoch)` gives the indices of one pass, int64 [len(split)];
    `augment(epoch)`, what becomes of each image of the split in that pass, wherever in the order it comes. `share(n)`:
    which of a batch's n images are given out, int64 positions; without it, all.
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        targets: Tensor | None = None,
        mean: Sequence[float],
        std: Sequence[float],
        order: Callable[[int], Tensor] | None = None,
        augment: Callable[[int], Moves] | None = None,
        share: Callable[[int], Tensor] | None = None,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        if drop_last and batch_size > len(split):
            raise ValueError(f"trainer.batch_size={batch_size} must be at most the {len(split)} images there are.")
        self.batch_size, self.order, self.augment, self.drop_last = batch_size, order, augment, drop_last
        self.share = share
        self.epoch = 0
        self._channels_last = memory_format == torch.channels_last
        self._device = torch.device(device)
        self._pixels, self._rows = self._kept(split)
        self._targets = (split.labels if targets is None else targets).to(device)
        # Expanded to whole images: broadcasting along a last axis of 3 channels is several times slower.
        shape = (1, *split.image_shape)
        self._mean = self._stored(torch.tensor(mean).view(1, -1, 1, 1).expand(shape)).to(device)
        deviation = [value or 1.0 for value in std]  # a constant channel becomes 0, not NaN
        self._std = self._stored(torch.tensor(deviation).view(1, -1, 1, 1).expand(shape)).to(device)
        self._white = torch.tensor(255.0, device=device)  # by a number, CUDA multiplies with its rounded reciprocal

    def set_epoch(self, epoch: int) -> None:
        """Which epoch (from 0) the next pass is of; in time until its first batch is taken."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self._targets), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = None if self.order is None else self.order(self.epoch).to(self._targets.device)
        assert order is None or len(order) == len(self._targets)
        moves = None if self.augment is None else self.augment(self.epoch).to(self._device)
        for batch in range(len(self)):
            start = batch * self.batch_size
            part: slice | Tensor = slice(start, start + self.batch_size)
            if self.share is not None:
                count = min(self.batch_size, len(self._targets) - start)
                part = (start + self.share(count)).to(self._targets.device)
            which = part if order is None else order[part]
            pixels = self._taken(which)
            if moves is not None:
                pixels = moved(pixels, moves.of(which), row_axis=1 if self._channels_last else 2)
            yield self._floats(pixels), self._targets[which]

    def normalised(self, images: Tensor) -> Tensor:
        """Any uint8 images [n, c, h, w] of this set's size, as a batch has them."""
        return self._floats(self._stored(images).to(self._device))

    def _kept(self, split: Split) -> tuple[Tensor | Split, Tensor | None]:
        """Where batches come from, and which rows of it: the storage itself where it is as batches want it, a copy
        on the device where there is room, else the split, batch by batch."""
        if self._device.type == "cpu":
            if isinstance(split.storage, OnDisk):
                return split, None
            if self._channels_last:
                return self._stored(split.storage), split.rows
            return self._stored(split.images), None
        return (self._copied(split), None) if fits(split, self._device) else (split, None)

    def _copied(self, split: Split) -> Tensor:
        channels, height, width = split.image_shape
        shape = (height, width, channels) if self._channels_last else (channels, height, width)
        pixels = torch.empty((len(split), *shape), dtype=torch.uint8, device=self._device)
        start = 0
        for part in split.parts():
            pixels[start : start + len(part)] = self._stored(part)
            start += len(part)
        return pixels

    def _taken(self, which: slice | Tensor) -> Tensor:
        if isinstance(self._pixels, Split):
            which = which if isinstance(which, slice) else which.cpu()
            return self._stored(self._pixels.take(which)).to(self._device)
        rows = which if self._rows is None else self._rows[which]
        return self._pixels[rows] if isinstance(rows, slice) else self._pixels.index_select(0, rows)

    def _stored(self, images: Tensor) -> Tensor:
        return (images.permute(0, 2, 3, 1) if self._channels_last else images).contiguous()

    def _floats(self, pixels: Tensor) -> Tensor:
        images = pixels.to(torch.float32).div_(self._white).sub_(self._mean).div_(self._std)
        return images.permute(0, 3, 1, 2) if self._channels_last else images


def fits(split: Split, device: torch.device) -> bool:
    if device.type != "cuda":
        return True
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return len(split) * math.prod(split.image_shape) <= DEVICE_SHARE * free_bytes

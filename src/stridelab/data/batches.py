"""Batches for training and evaluation, gathered from uint8 images in memory: no work per image in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .splits import Split


class Batches:
    """Yields (images float32 [b, c, h, w], labels int64 [b]), to the bit as ToTensor and Normalize give them.

    Images stay uint8 in the memory of `device`; only a batch at a time is ever float. Without `order`, the
    order is that of the split. `order(epoch)` gives the indices of one pass, int64 [len(split)].
    """

    def __init__(
        self,
        split: Split,
        *,
        batch_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        order: Callable[[int], Tensor] | None = None,
        device: torch.device | str = "cpu",
        drop_last: bool = False,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        if drop_last and batch_size > len(split):
            raise ValueError(f"trainer.batch_size={batch_size} must be at most the {len(split)} images there are.")
        self.batch_size, self.order, self.drop_last = batch_size, order, drop_last
        self.epoch = 0
        self._channels_last = memory_format == torch.channels_last
        self._pixels = self._stored(split.images).to(device)
        self._labels = split.labels.to(device)
        # Expanded to whole images: broadcasting along a last axis of 3 channels is several times slower.
        shape = (1, *split.images.shape[1:])
        self._mean = self._stored(torch.tensor(mean).view(1, -1, 1, 1).expand(shape)).to(device)
        deviation = [value or 1.0 for value in std]  # a constant channel becomes 0, not NaN
        self._std = self._stored(torch.tensor(deviation).view(1, -1, 1, 1).expand(shape)).to(device)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch (from 0) the next pass asks `order` for; in time until its first batch is taken."""
        self.epoch = epoch

    def __len__(self) -> int:
        whole, rest = divmod(len(self._labels), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = None if self.order is None else self.order(self.epoch).to(self._labels.device)
        assert order is None or order.shape == self._labels.shape
        for batch in range(len(self)):
            part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            if order is None:
                pixels, labels = self._pixels[part], self._labels[part]
            else:
                pixels = self._pixels.index_select(0, order[part])
                labels = self._labels.index_select(0, order[part])
            yield self._floats(pixels), labels

    def normalised(self, images: Tensor) -> Tensor:
        """Any uint8 images [n, c, h, w] of this set's size, as a batch has them."""
        return self._floats(self._stored(images).to(self._pixels.device))

    def _stored(self, images: Tensor) -> Tensor:
        return (images.permute(0, 2, 3, 1) if self._channels_last else images).contiguous()

    def _floats(self, pixels: Tensor) -> Tensor:
        images = pixels.to(torch.float32).div_(255).sub_(self._mean).div_(self._std)
        return images.permute(0, 3, 1, 2) if self._channels_last else images

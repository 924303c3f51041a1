"""Random crops and mirror images of a whole batch at once, on uint8 where it lies: no work per image in Python."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class Moves:
    """What becomes of each of n images: first the mirror image, then the crop."""

    padding: int
    """Pixels of zeros put on every side before an image is cropped to its own size again; 0: no crop."""
    down: Tensor
    """int64 [n], from 0 to 2 * padding: where in the padded image the crop begins."""
    right: Tensor
    """int64 [n], from 0 to 2 * padding."""
    mirrored: Tensor | None
    """int64 [n], 1 for an image whose left and right change places, else 0; None: no image is mirrored."""

    def of(self, which: slice | Tensor) -> Moves:
        mirrored = None if self.mirrored is None else self.mirrored[which]
        return Moves(self.padding, self.down[which], self.right[which], mirrored)

    def to(self, device: torch.device) -> Moves:
        mirrored = None if self.mirrored is None else self.mirrored.to(device)
        return Moves(self.padding, self.down.to(device), self.right.to(device), mirrored)


def moved(images: Tensor, moves: Moves, *, row_axis: int) -> Tensor:
    """New images of the same shape; contiguous, rows along `row_axis` and columns along the axis after it."""
    before, (height, width), after = images.shape[1:row_axis], images.shape[row_axis : row_axis + 2], row_axis + 2
    planes = images.reshape(len(images), math.prod(before), height, width, math.prod(images.shape[after:]))
    if moves.mirrored is not None:
        planes = mirror(planes, moves.mirrored)
    if moves.padding:
        planes = crop(planes, moves)
    return planes.view(images.shape)


def mirror(planes: Tensor, mirrored: Tensor) -> Tensor:
    """`planes` [n, planes, height, width, values]. Whole images are chosen out of both kinds: on bytes, torch.where
    takes eight times as long."""
    both = torch.cat([planes, planes.flip(3)])
    numbers = torch.arange(len(planes), device=planes.device)
    return both.index_select(0, numbers + len(planes) * mirrored)


def crop(planes: Tensor, moves: Moves) -> Tensor:
    """`planes` [n, planes, height, width, values]. Every row of a crop is one run of pixels in the padded images,
    and one call copies them all."""
    images, depth, height, width, values = planes.shape
    rows, columns = height + 2 * moves.padding, width + 2 * moves.padding
    padded = planes.new_zeros(images, depth, rows, columns, values)
    padded[:, :, moves.padding : moves.padding + height, moves.padding : moves.padding + width] = planes
    # A view of the run of `width` pixels that begins at each pixel; they overlap, and are only read.
    runs = padded.as_strided((images * depth * rows * columns - width + 1, width * values), (values, 1))
    first_rows = torch.arange(images * depth, device=planes.device).view(images, depth, 1) * rows
    which_rows = first_rows + moves.down.view(-1, 1, 1) + torch.arange(height, device=planes.device)
    begins = which_rows * columns + moves.right.view(-1, 1, 1)
    return runs.index_select(0, begins.flatten()).view(planes.shape)

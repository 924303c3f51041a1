"""How a network ends that tells places on the image: modules of the layers in `heads`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stridelab.geometry import Layer, LayerGeometry


class Readout(nn.Conv2d):
    """A 1x1 convolution that reads the last map; its weights start as a linear layer's."""


class SoftArgmax(nn.Module):
    """Where a map of scores is high: maps (batch, 2, height, width) of scores and of presence, to (batch, 4).

    The softmax of the scores weighs the units; the columns are the weighted mean of their rows and columns in input
    pixels (a unit's centre on the image, exactly), that of presence (a logit), and the weights' variance in pixels^2.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, rows: Tensor, columns: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        scores, presence = maps[:, 0], maps[:, 1]
        weights = scores.flatten(1).softmax(1).view(scores.shape)
        present = (weights * presence).sum((1, 2))
        places, spread = [], torch.zeros_like(present)
        for centres, axis in ((self.rows, 2), (self.columns, 1)):
            along = weights.sum(axis)
            place = (along * centres).sum(1)
            spread = spread + (along * centres.square()).sum(1) - place.square()
            places.append(place)
        return torch.stack([*places, present, spread], 1)


class Resample(nn.Module):
    """Bilinear between the units' centres, to a value for each pixel of the image; beyond the outermost centres, the
    nearest unit's. (batch, channels, rows, columns) -> (batch, channels, height, width)."""

    down: Tensor
    across: Tensor

    def __init__(self, down: Tensor, across: Tensor) -> None:
        """`down` [height, rows], `across` [width, columns]: the weights of the units for each pixel."""
        super().__init__()
        self.register_buffer("down", down, persistent=False)
        self.register_buffer("across", across, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        wide = maps @ self.across.to(maps.dtype).T
        return (wide.transpose(2, 3) @ self.down.to(maps.dtype).T).transpose(2, 3)


def build_readout(layer: Layer, geometry: LayerGeometry) -> nn.Module:
    return Readout(geometry.in_channels, geometry.out_channels, layer.kernel_size, bias=layer.bias)


def build_soft_argmax(layer: Layer, geometry: LayerGeometry) -> nn.Module:
    return SoftArgmax(*(torch.tensor(centres) for centres in unit_centres(layer, geometry.input_size)))


def build_resample(layer: Layer, geometry: LayerGeometry) -> nn.Module:
    centres = unit_centres(layer, geometry.input_size)
    return Resample(*(bilinear(units, count=count) for units, count in zip(centres, geometry.output_size, strict=True)))


def unit_centres(layer: Layer, size: tuple[int, int]) -> tuple[list[float], list[float]]:
    """Of the units of a map of `size`, by row and by column: where on the image the middle of what each sees is."""
    (top, left) = layer.padding
    assert isinstance(top, int)
    assert isinstance(left, int)
    rows, columns = (
        [unit * step - pad + (field - 1) / 2 for unit in range(count)]
        for count, step, pad, field in zip(size, layer.stride, (top, left), layer.kernel_size, strict=True)
    )
    return rows, columns


def bilinear(centres: list[float], *, count: int) -> Tensor:
    """Weights of the units at `centres` for each of `count` pixels: float32 [count, units], each row of sum 1."""
    first, step = centres[0], (centres[1] - centres[0] if len(centres) > 1 else 1.0)
    place = ((torch.arange(count) - first) / step).clamp(0, len(centres) - 1)
    return (1 - (place[:, None] - torch.arange(len(centres))).abs()).clamp(min=0)

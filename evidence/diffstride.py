"""DiffStride as a network of one's own: strides that are learned (Riad, Teboul, Grangier and Zeghidour, "Learning
strides in convolutional neural networks", ICLR 2022), written from the paper's
equations; its text was not at hand.

    python evidence/diffstride.py plan model=diffstride
    python evidence/diffstride.py -m model=diffstride model.smoothness=2,4 seed=0,1,2

What the plan says is of the strides that training begins with: sizes and multiplications change with them."""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

import stridelab


class DiffStride(nn.Module):
    """(batch, channels, height, width) -> (batch, channels, floor(height / S + 2 R), floor(width / S' + 2 R)), never
    more than come in, with the learned strides S, S' >= 1 and the smoothness R: the low frequencies of the maps.

    Everything in it is linear along one axis after the other, so that DFT, mask, crop and inverse DFT are one matrix an
    axis; a constant map stays what it is.
    """

    def __init__(self, stride: float, *, smoothness: float = 4.0, learned: bool = True) -> None:
        """`stride`: of both axes, before training; a trace, which has no values, sees the map at it. `smoothness`: 4 in
        the paper."""
        super().__init__()
        self.smoothness, self.traced = smoothness, (float(stride), float(stride))
        self.stride = nn.Parameter(torch.full((2,), float(stride)), requires_grad=learned)

    def forward(self, maps: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():  # a step of the optimizer may have left what is allowed
                self.stride.clamp_(min=1)
        strides = self.stride if self.training else self.stride.clamp(min=1)
        known = self.traced if isinstance(strides, FakeTensor) else strides.tolist()
        down, across = (
            low_pass(size, stride, self.smoothness, output_size(size, value, self.smoothness)).to(maps.dtype)
            for size, stride, value in zip(maps.shape[2:], strides, known, strict=True)
        )
        return ((maps @ across.T).transpose(2, 3) @ down.T).transpose(2, 3)

    def extra_repr(self) -> str:
        return f"stride={[round(one, 2) for one in self.stride.tolist()]}, smoothness={self.smoothness:g}"


def output_size(size: int, stride: float, smoothness: float) -> int:
    """How many frequencies have a mask above 0."""
    return min(size, math.floor(size / stride + 2 * smoothness))


def low_pass(size: int, stride: Tensor, smoothness: float, count: int) -> Tensor:
    """[count, size]: of `size` pixels the `count` that hold their low frequencies. Frequency k is multiplied by
    min(max((R + size / (2 S) - |k|) / R, 0), 1). The gradient of S comes through this mask, none through `count`."""
    waves = torch.from_numpy(cosines(size, count)).to(stride)
    frequencies = torch.arange(count // 2 + 1).to(stride)
    mask = ((smoothness + size / (2 * stride) - frequencies) / smoothness).clamp(0, 1)
    return (waves * mask).sum(-1)


@lru_cache(maxsize=256)
def cosines(size: int, count: int) -> NDArray[np.float64]:
    """[count, size, k]: what the frequencies k = 0, 1, ... that `count` pixels can hold carry to pixel j of `count`
    from pixel i of `size`. Each stands for k and -k, but for 0 and the last of an even `count`."""
    k = np.arange(count // 2 + 1)
    turns = (np.arange(count) * size)[:, None] - np.arange(size) * count  # of size * count
    angles = 2 * math.pi / (size * count) * (turns[:, :, None] * k % (size * count))
    both = np.where((k == 0) | (2 * k == count), 1, 2)
    waves: NDArray[np.float64] = np.cos(angles) * both / size
    return waves


@stridelab.family("diffstride")
def diffstride(
    *,
    in_channels: int,
    num_classes: int,
    channels: tuple[int, ...] = (8, 16, 32),
    strides: tuple[float, ...] = (2, 2, 1),
    smoothness: float = 4.0,
    learned: bool = True,
) -> nn.Module:
    """Family cnn, with its names and so its initial weights; behind a layer whose stride is above 1, DiffStride begins
    with that. Behind the last layer it would learn nothing: the mean over a map is its frequency 0."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, (wide, stride) in enumerate(zip(channels, strides, strict=True), start=1):
        layers[f"conv{number}"] = nn.Conv2d(in_channels, wide, 3, padding=1, bias=False)
        layers[f"norm{number}"] = nn.BatchNorm2d(wide)
        layers[f"relu{number}"] = nn.ReLU()
        if stride > 1:
            layers[f"down{number}"] = DiffStride(stride, smoothness=smoothness, learned=learned)
        in_channels = wide
    layers["pool"], layers["flatten"] = nn.AdaptiveAvgPool2d(1), nn.Flatten()
    layers["classifier"] = nn.Linear(in_channels, num_classes)
    return nn.Sequential(layers)


stridelab.main()

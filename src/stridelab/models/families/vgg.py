"""vgg: Simonyan and Zisserman 2015, with batch norm; its convolutions are named as torchvision's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from stridelab.geometry import Layer, LayerPlan, parse_padding

from ..downsampling import DOWNSAMPLING
from ..heads import head
from ..settings import ConvNetConfig, Pair, each_layer, positive

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Depth -> 3x3 convolutions of each of five stages."""


@dataclass(frozen=True)
class VggConfig(ConvNetConfig):
    """Five stages of 3x3 convolutions; at the end of each, its stride, by a max pool unless `downsample` says else."""

    depth: int = 11
    """11, 13, 16 or 19: layers with weights in the original, whose three linear layers `head` stands for."""
    width: int = 16
    """Feature maps of the first stage; then twice, four, eight and eight times as many. 64 in the original."""
    strides: Any = field(default=(2, 2, 1, 1, 1), metadata=each_layer("stride", geometry=True))
    """One a stage, of its last convolution or the pool behind it; 2-2-2-2-2 in the original."""
    downsample: Any = field(
        default="max_pool", metadata=each_layer("downsample", uniform=True, geometry=True) | {"choices": DOWNSAMPLING}
    )
    """How a stage makes its map smaller by its stride; max_pool in the original."""

    def __post_init__(self) -> None:
        if self.depth not in CONVOLUTIONS:
            raise ValueError(f"model.depth={self.depth} must be one of {', '.join(map(str, CONVOLUTIONS))}.")
        positive("model.width", self.width)
        self.settle(count=5, of="model.family=vgg has 5 stages")


def vgg(config: VggConfig, *, input_channels: int, input_size: Pair, num_classes: int) -> LayerPlan:
    layers: list[Layer] = []
    numbers = count()
    for stage, convolutions in enumerate(CONVOLUTIONS[config.depth]):
        for number in range(convolutions):
            last = number == convolutions - 1
            made = convolution(config, numbers, stage, stride=config.strides[stage] if last else (1, 1))
            if last:  # a stage's pool has a number, in any case: names do not depend on strides
                made = config.smaller(made, how=config.downsample[stage], name=f"features.{next(numbers)}")
            layers += made
    layers += head(config, source=layers[-1].name, num_classes=num_classes)
    return LayerPlan(input_channels, input_size, tuple(layers))


def convolution(config: VggConfig, numbers: Iterator[int], stage: int, *, stride: Pair) -> list[Layer]:
    conv = Layer(
        f"features.{next(numbers)}",
        "conv",
        out_channels=config.width * min(2**stage, 8),
        kernel_size=(3, 3),
        stride=stride,
        padding=parse_padding(config.padding[0]),
        padding_mode=config.padding_mode,
        bias=True,
    )
    return [conv, Layer(f"features.{next(numbers)}", "norm"), Layer(f"features.{next(numbers)}", "activation")]

"""allconv: the networks of "Striving for Simplicity" (Springenberg et al. 2015), with which pooling, strides and
convolutions in its place were compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stridelab.geometry import Layer, LayerPlan, parse_padding

from ..heads import head
from ..settings import GEOMETRY, ConvNetConfig, Pair, each_layer, positive, require_choice

BASES = {"a": (5,), "b": (5, 1), "c": (3, 3)}
"""Base model -> kernels of the convolutions ahead of each reduction."""
REDUCTIONS = {
    "pool": "the base model: a max pool of 3x3 windows",
    "stride": "Strided-CNN: the convolution ahead takes its steps, and there is no pool",
    "conv_pool": "ConvPool-CNN: a 3x3 convolution more, then the max pool",
    "conv": "All-CNN: a 3x3 convolution with the stride in place of the pool",
}
"""`model.reduction` -> what makes the map smaller. conv_pool and conv have a layer more than the others: between them
it is controlled for."""


@dataclass(frozen=True)
class AllConvConfig(ConvNetConfig):
    """Two reductions behind convolutions of `width` and 2 `width` maps; a 3x3 and a 1x1 convolution; the head, whose
    linear layer on averages is the paper's 1x1 convolution ahead of them. Batch norm, and no dropout."""

    base: str = field(default="c", metadata={"choices": BASES})
    """Convolutions ahead of a reduction: a: a 5x5; b: a 5x5 and a 1x1; c: two 3x3."""
    reduction: str = field(default="pool", metadata={"choices": REDUCTIONS} | GEOMETRY)
    """What makes the map smaller: pool: a 3x3 max pool; stride: the convolution ahead; conv_pool: a 3x3 convolution
    and the pool; conv: a 3x3 convolution with the stride."""
    width: int = 24
    """Feature maps ahead of the first reduction, twice as many behind it; 96 in the paper."""
    strides: Any = field(default=(2, 2), metadata=each_layer("stride", geometry=True))
    """Of the two reductions."""

    def __post_init__(self) -> None:
        require_choice("model.base", self.base, tuple(BASES))
        require_choice("model.reduction", self.reduction, tuple(REDUCTIONS))
        positive("model.width", self.width)
        self.settle(count=2, of="model.family=allconv has 2 reductions")
        if set(self.downsample) != {"stride"}:
            raise ValueError(
                f"model.downsample={self.downsample[0]}: of model.family=allconv, model.reduction= says what makes a "
                f"map smaller; choose one of {', '.join(REDUCTIONS)}."
            )


def allconv(config: AllConvConfig, *, input_channels: int, input_size: Pair, num_classes: int) -> LayerPlan:
    layers: list[Layer] = []
    for index, stride in enumerate(config.strides):
        layers += reduced(config, index + 1, stride, width=config.width * (index + 1))
    for name, kernel in (("conv3.1", 3), ("conv3.2", 1)):
        layers += convolution(config, name, 2 * config.width, kernel=kernel)
    layers += head(config, source=layers[-1].name, num_classes=num_classes)
    return LayerPlan(input_channels, input_size, tuple(layers))


def reduced(config: AllConvConfig, part: int, stride: Pair, *, width: int) -> list[Layer]:
    """`conv1.1`, `conv1.2`, ... and their reduction: names of what the four share are the same."""
    kernels = BASES[config.base]
    layers: list[Layer] = []
    for number, kernel in enumerate(kernels, start=1):
        strided = config.reduction == "stride" and number == len(kernels)
        steps = stride if strided else (1, 1)
        layers += convolution(config, f"conv{part}.{number}", width, kernel=kernel, stride=steps)
    if config.reduction in ("conv", "conv_pool"):
        steps = stride if config.reduction == "conv" else (1, 1)
        layers += convolution(config, f"conv{part}.more", width, kernel=3, stride=steps)
    if config.reduction in ("pool", "conv_pool") and stride != (1, 1):
        padding = parse_padding(config.padding[0])
        layers.append(Layer(f"pool{part}", "max_pool", kernel_size=(3, 3), stride=stride, padding=padding))
    return layers


def convolution(config: AllConvConfig, name: str, out: int, *, kernel: int, stride: Pair = (1, 1)) -> list[Layer]:
    conv = Layer(
        name,
        "conv",
        out_channels=out,
        kernel_size=(kernel, kernel),
        stride=stride,
        padding=parse_padding(config.padding[0]) if kernel > 1 else (0, 0),
        padding_mode=config.padding_mode,
    )
    part = name.removeprefix("conv")
    return [conv, Layer(f"norm{part}", "norm"), Layer(f"relu{part}", "activation")]

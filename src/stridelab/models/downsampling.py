"""How a layer makes its map smaller by a factor: by its stride, or by a pooling of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from stridelab.geometry import Layer, Pair


class Blur(NamedTuple):
    size: int
    """Taps of the binomial filter along an axis."""
    padding_mode: str


@dataclass(frozen=True)
class Downsampling:
    meaning: str
    layer: Callable[[str, Pair, Blur], Layer] | None = None
    """(name, factor, blur) -> what makes the map smaller, while the operation itself has stride 1."""
    ahead: bool = False
    """That layer comes before the operation, not behind its non-linearity."""


def pool(kind: str) -> Callable[[str, Pair, Blur], Layer]:
    return lambda name, factor, blur: Layer(name, kind, kernel_size=factor, stride=factor, ceil_mode=True)


def blur_pool(name: str, factor: Pair, blur: Blur) -> Layer:
    """Only along the axes that are made smaller."""
    height, width = (blur.size if step > 1 else 1 for step in factor)
    return Layer(
        name,
        "blur_pool",
        kernel_size=(height, width),
        stride=factor,
        padding=(((height - 1) // 2, height // 2), ((width - 1) // 2, width // 2)),
        padding_mode=blur.padding_mode,
    )


def space_to_depth(name: str, factor: Pair, blur: Blur) -> Layer:
    return Layer(
        name,
        "space_to_depth",
        kernel_size=factor,
        stride=factor,
        remedy="choose another model.downsample, or model.strides that divide the map",
    )


DOWNSAMPLING: dict[str, Downsampling] = {
    "stride": Downsampling("the convolution itself takes steps of the factor"),
    "max_pool": Downsampling(
        "the convolution at stride 1, its non-linearity, then the maximum of windows as large as the factor",
        pool("max_pool"),
    ),
    "avg_pool": Downsampling(
        "the convolution at stride 1, its non-linearity, then the mean of windows as large as the factor",
        pool("avg_pool"),
    ),
    "blur_pool": Downsampling(
        "the convolution at stride 1, its non-linearity, then a binomial filter of model.blur_size, read in steps of "
        "the factor (Zhang 2019)",
        blur_pool,
    ),
    "space_to_depth": Downsampling(
        "the pixels of a block become channels, then the convolution at stride 1: it has more parameters",
        space_to_depth,
        ahead=True,
    ),
    "none": Downsampling("nothing is made smaller: the layer's entry in model.strides must be 1"),
}
"""`model.downsample` -> how a layer whose stride is the factor becomes layers. All make maps of the same size: the
convolution's at stride 1, divided by the factor and rounded up."""


def down_sample(layers: Sequence[Layer], *, name: str, how: str, blur: Blur, ahead: bool = False) -> list[Layer]:
    """`layers`, one after another, of which the first has a stride: made smaller as `how` says, by a layer `name`;
    `ahead`: which comes first, whatever `how` says."""
    first, *rest = layers
    way = DOWNSAMPLING[how]
    if way.layer is None or first.stride == (1, 1):
        return list(layers)
    smaller, first = way.layer(name, first.stride, blur), replace(first, stride=(1, 1))
    if way.ahead or ahead:
        return [replace(smaller, inputs=first.inputs), replace(first, inputs=(name,)), *rest]
    return [first, *rest, replace(smaller, inputs=(layers[-1].name,))]

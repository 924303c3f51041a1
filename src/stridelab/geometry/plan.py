"""The layer plan: a network as plain data, the one source of every figure and of the network itself."""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[int, int]
"""(height, width)."""

AxisPadding = int | tuple[int, int] | str
"""Padding of one axis: symmetric, (before, after), or the name of a policy in `PADDINGS`."""

IMAGE = "image"
"""The name by which layers refer to the network's input."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One node of a layer plan; `inputs` name the layers (or `IMAGE`) whose maps it reads."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    out_channels: int | None = None
    kernel_size: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[AxisPadding, AxisPadding] = (0, 0)
    padding_mode: str = "zeros"
    groups: int = 1
    bias: bool = False
    ceil_mode: bool = False


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """A network: an input of `input_channels` maps of `input_size`, and layers in topological order."""

    input_channels: int
    input_size: Pair
    layers: tuple[Layer, ...]

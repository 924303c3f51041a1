"""What each kind of layer does to a map: one function a kind, one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from stridelab.geometry.axis import AxisGeometry, conv_axis, irregular_axis, pool_axis, whole_axis
from stridelab.geometry.plan import Layer, Pair

Choice = TypeVar("Choice")
Axes = tuple[AxisGeometry, AxisGeometry]
INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True, slots=True)
class Grid:
    """The size of a map."""

    channels: int
    size: Pair

    @property
    def elements(self) -> int:
        return self.channels * self.size[0] * self.size[1]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a layer makes of its inputs; None stands for what cannot be known."""

    channels: int
    axes: Axes
    """The windows along height and width."""
    whole: bool = False
    params: int | None = 0
    macs: int | None = 0
    saves: str | None = ""
    """Which of its own maps autograd keeps: INPUT, OUTPUT, or "" for none."""
    extra_bytes: int = 0
    """What autograd keeps besides, a image, that no other layer shares: indices, masks, statistics."""
    aliases: bool = False
    """The output is a view of the input: no memory of its own."""

    @property
    def grid(self) -> Grid:
        return Grid(self.channels, (self.axes[0].output_size, self.axes[1].output_size))

    @property
    def pad(self) -> tuple[Pair, Pair]:
        """((top, bottom), (left, right))."""
        height, width = self.axes
        return (height.pad_before, height.pad_after), (width.pad_before, width.pad_after)


Rule = Callable[[Layer, Sequence[Grid]], Effect]


def _windows(layer: Layer, grid: Grid) -> Axes:
    height, width = (
        conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=p)
        for n, k, s, d, p in zip(
            grid.size, layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True
        )
    )
    return height, width


def _pool_windows(layer: Layer, grid: Grid) -> Axes:
    height, width = (
        pool_axis(n, kernel_size=k, stride=s, dilation=d, padding=p, ceil_mode=layer.ceil_mode)
        for n, k, s, d, p in zip(
            grid.size, layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True
        )
    )
    return height, width


def _unchanged(grid: Grid) -> Axes:
    return conv_axis(grid.size[0], kernel_size=1), conv_axis(grid.size[1], kernel_size=1)


def _everything(grid: Grid) -> Axes:
    return whole_axis(grid.size[0]), whole_axis(grid.size[1])


def _area(size: Pair) -> int:
    return size[0] * size[1]


def _outputs(axes: Axes) -> int:
    return axes[0].output_size * axes[1].output_size


def conv(layer: Layer, maps: Sequence[Grid]) -> Effect:
    (grid,) = maps
    axes = _windows(layer, grid)
    channels = layer.out_channels or grid.channels
    if grid.channels % layer.groups or channels % layer.groups:
        raise ValueError(f"groups={layer.groups} must divide its {grid.channels} input and {channels} output channels")
    weights = channels * (grid.channels // layer.groups) * _area(layer.kernel_size)
    return Effect(
        channels,
        axes,
        params=weights + channels * layer.bias,
        macs=weights * _outputs(axes),
        saves=INPUT,
    )


def max_pool(layer: Layer, maps: Sequence[Grid]) -> Effect:
    (grid,) = maps
    axes = _pool_windows(layer, grid)
    indices = 8 * grid.channels * _outputs(axes)  # int64
    return Effect(grid.channels, axes, saves=INPUT, extra_bytes=indices)


def avg_pool(layer: Layer, maps: Sequence[Grid]) -> Effect:
    (grid,) = maps
    return Effect(grid.channels, _pool_windows(layer, grid), saves=INPUT)


def global_avg_pool(layer: Layer, maps: Sequence[Grid]) -> Effect:
    """x.mean((2, 3)), whose gradient needs only the size."""
    (grid,) = maps
    return Effect(grid.channels, _everything(grid), whole=True)


def adaptive_avg_pool(layer: Layer, maps: Sequence[Grid]) -> Effect:
    """Bin i of n columns into m is [floor(i n / m), ceil((i + 1) n / m)); PyTorch computes 1x1 as a mean."""
    (grid,) = maps
    if layer.output_size is None:
        raise ValueError("an adaptive_avg_pool needs its output_size, [height, width]")
    if layer.output_size == (1, 1):
        return global_avg_pool(layer, maps)
    height, width = (_bins(n, m) for n, m in zip(grid.size, layer.output_size, strict=True))
    return Effect(grid.channels, (height, width), saves=INPUT)


def _bins(size: int, count: int) -> AxisGeometry:
    if count < 1:
        raise ValueError(f"output_size={count} is not allowed; it must be an integer of 1 or more")
    if size % count == 0:
        return pool_axis(size, kernel_size=size // count)
    widest = max(-(-(i + 1) * size // count) - i * size // count for i in range(count))
    return irregular_axis(size, count, kernel_size=widest)


def norm(layer: Layer, maps: Sequence[Grid]) -> Effect:
    (grid,) = maps
    per_position = _chosen(layer.function or "batch", NORMS, "norm")
    extra = per_position * _area(grid.size)
    return Effect(grid.channels, _unchanged(grid), params=2 * grid.channels, saves=INPUT, extra_bytes=extra)


def activation(layer: Layer, maps: Sequence[Grid]) -> Effect:
    (grid,) = maps
    saves = _chosen(layer.function or "relu", ACTIVATIONS, "activation")
    return Effect(grid.channels, _unchanged(grid), saves=saves)


def dropout(layer: Layer, maps: Sequence[Grid]) -> Effect:
    """Keeps its noise: 4 bytes an element as on CPU (CUDA's fused dropout keeps a 1-byte mask)."""
    (grid,) = maps
    return Effect(grid.channels, _unchanged(grid), extra_bytes=4 * grid.channels * _area(grid.size))


def identity(layer: Layer, maps: Sequence[Grid]) -> Effect:
    (grid,) = maps
    return Effect(grid.channels, _unchanged(grid), aliases=True)


def add(layer: Layer, maps: Sequence[Grid]) -> Effect:
    return Effect(_joined(maps).channels, _unchanged(_joined(maps)))


def multiply(layer: Layer, maps: Sequence[Grid]) -> Effect:
    """Elementwise; each factor's gradient needs the other. With one input: a learned scale, one weight a channel."""
    grid = _joined(maps)
    params = grid.channels if len(maps) == 1 else 0
    return Effect(grid.channels, _unchanged(grid), params=params, saves=INPUT)


def concat(layer: Layer, maps: Sequence[Grid]) -> Effect:
    if len({grid.size for grid in maps}) > 1:
        raise ValueError(f"a concat needs maps of one size, not {_sizes(maps)}")
    return Effect(sum(grid.channels for grid in maps), _unchanged(maps[0]))


def flatten(layer: Layer, maps: Sequence[Grid]) -> Effect:
    (grid,) = maps
    return Effect(grid.channels * _area(grid.size), _everything(grid), whole=True, aliases=True)


def linear(layer: Layer, maps: Sequence[Grid]) -> Effect:
    (grid,) = maps
    if grid.size != (1, 1):
        raise ValueError(f"a linear layer reads a vector, not a {_sizes(maps)} map; put a global pool or flatten before it")
    channels = layer.out_channels or grid.channels
    weights = channels * grid.channels
    return Effect(channels, _unchanged(grid), params=weights + channels * layer.bias, macs=weights, saves=INPUT)


def opaque(layer: Layer, maps: Sequence[Grid]) -> Effect:
    """Something that cannot be followed: only the size of its map is taken on trust."""
    if layer.output_size is None or layer.out_channels is None:
        raise ValueError("an opaque layer needs its output_size and out_channels: nothing can be worked out")
    (height, width), (rows, columns) = maps[0].size, layer.output_size
    axes = irregular_axis(height, rows), irregular_axis(width, columns)
    return Effect(layer.out_channels, axes, params=None, macs=None, saves=None)


KINDS: dict[str, Rule] = {
    "activation": activation,
    "adaptive_avg_pool": adaptive_avg_pool,
    "add": add,
    "avg_pool": avg_pool,
    "concat": concat,
    "conv": conv,
    "dropout": dropout,
    "flatten": flatten,
    "global_avg_pool": global_avg_pool,
    "identity": identity,
    "linear": linear,
    "max_pool": max_pool,
    "multiply": multiply,
    "norm": norm,
    "opaque": opaque,
}

JOINS = ("add", "concat", "multiply", "opaque")
"""The kinds that may read several maps."""

ACTIVATIONS: dict[str, str] = {
    **dict.fromkeys(("relu", "sigmoid", "tanh", "softmax", "elu_", "celu_", "selu_", "leaky_relu_"), OUTPUT),
    **dict.fromkeys(("relu6", "hardtanh", "hardswish", "hardsigmoid", "gelu", "silu", "mish", "softplus"), INPUT),
    **dict.fromkeys(("elu", "celu", "selu", "leaky_relu", "prelu"), INPUT),
}
"""Which map PyTorch keeps for an activation's gradient. A trailing _ is PyTorch's in-place form, where that matters."""

NORMS: dict[str, int] = {"batch": 0, "group": 0, "instance": 0, "layer": 8}
"""Statistics kept for each position of the map, in bytes (those kept per channel or group do not grow with the map)."""


def _chosen(name: str, choices: dict[str, Choice], what: str) -> Choice:
    if name not in choices:
        raise ValueError(f"function={name!r} is not a known {what}; choose one of {', '.join(sorted(choices))}")
    return choices[name]


def _joined(maps: Sequence[Grid]) -> Grid:
    """The common size of maps that are joined element by element; a 1x1 map is broadcast over the others."""
    grid = max(maps, key=lambda grid: _area(grid.size))
    for other in maps:
        if other.channels != grid.channels or other.size not in (grid.size, (1, 1)):
            raise ValueError(f"maps that are joined element by element must be of one size, not {_sizes(maps)}")
    return grid


def _sizes(maps: Sequence[Grid]) -> str:
    return " and ".join(f"{grid.channels}x{grid.size[0]}x{grid.size[1]}" for grid in maps)

"""What each kind of layer does to a map: one function a kind, one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from stridelab.geometry.axis import (
    AxisGeometry,
    conv_axis,
    interpolated_axis,
    irregular_axis,
    pool_axis,
    slice_axis,
    transposed_axis,
    whole_axis,
)
from stridelab.geometry.effect import INPUT, OUTPUT, Axes, Effect, MapSize
from stridelab.geometry.layer_plan import Layer
from stridelab.geometry.padding import PADDING_MODES, Pair
from stridelab.geometry.saved_tensors import FLOAT_BYTES, INDEX_BYTES, NOISE_BYTES, activation_saves, norm_statistics


def conv(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = _only(maps)
    height, width = axes = _windows(layer, grid)
    channels = _out_channels(layer, grid)
    if layer.groups < 1 or grid.channels % layer.groups or channels % layer.groups:
        raise ValueError(f"groups={layer.groups} must divide its {grid.channels} input and {channels} output channels")
    weights = channels * (grid.channels // layer.groups) * height.kernel_size * width.kernel_size
    macs = weights * height.output_size * width.output_size
    params = weights + channels * layer.bias
    return Effect(channels, axes, widens=True, params=params, macs=macs, saves=(INPUT,))


def conv_transpose(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """`padding` is PyTorch's, cut off the result; `output_size` the result's."""
    grid = _only(maps)
    height, width = (
        transposed_axis(n, m, kernel_size=k, stride=s, dilation=d, padding=p if isinstance(p, int) else 0)
        for n, m, k, s, d, p in zip(
            grid.size, _asked(layer), layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True
        )
    )
    channels = _out_channels(layer, grid)
    weights = grid.channels * (channels // layer.groups) * height.kernel_size * width.kernel_size
    params, macs = weights + channels * layer.bias, weights * grid.size[0] * grid.size[1]
    return Effect(channels, (height, width), widens=True, params=params, macs=macs, saves=(INPUT,))


def interpolate(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """`function`: nearest, bilinear, or aligned: bilinear with the corners of both maps on each other."""
    grid = _only(maps)
    height, width = (
        interpolated_axis(n, m, mode=layer.function) for n, m in zip(grid.size, _asked(layer), strict=True)
    )
    return Effect(_out_channels(layer, grid), (height, width), saves=None)


def cut(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """A slice: `stride` is its step, and `padding` how much is left out before it, negative."""
    grid = _only(maps)
    height, width = (
        slice_axis(n, start=-p[0] if isinstance(p, tuple) else 0, step=s, count=m)
        for n, s, p, m in zip(grid.size, layer.stride, layer.padding, _asked(layer), strict=True)
    )
    return Effect(_out_channels(layer, grid), (height, width), saves=None)


def max_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = _only(maps)
    height, width = axes = _pool_windows(layer, grid)
    indices = INDEX_BYTES * grid.channels * height.output_size * width.output_size
    return Effect(grid.channels, axes, widens=True, saves=(INPUT,), image_bytes=indices)


def avg_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = _only(maps)
    return Effect(grid.channels, _pool_windows(layer, grid), widens=True, saves=(INPUT,))


def blur_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Each channel convolved with one fixed filter, which is no parameter and costs MACs all the same."""
    grid = _only(maps)
    height, width = axes = _windows(layer, grid)
    macs = grid.channels * height.kernel_size * width.kernel_size * height.output_size * width.output_size
    return Effect(grid.channels, axes, widens=True, macs=macs, saves=(INPUT,))


def space_to_depth(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Blocks of `stride` pixels become channels of one pixel (Sajjadi et al. 2018; SPD-Conv): nothing is lost."""
    grid = _only(maps)
    height, width = layer.stride
    if grid.size[0] % height or grid.size[1] % width:
        raise ValueError(
            f"its sides must be multiples of {height} and {width} to be cut into blocks of {height}x{width}"
        )
    axes = (pool_axis(grid.size[0], kernel_size=height), pool_axis(grid.size[1], kernel_size=width))
    return Effect(grid.channels * height * width, axes)


def global_avg_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """x.mean((2, 3)), whose gradient needs no more than the size."""
    grid = _only(maps)
    return Effect(grid.channels, _everything(grid), whole=True)


def adaptive_avg_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Bin i of m over n columns is [floor(i n / m), ceil((i + 1) n / m)); PyTorch computes 1x1 as a mean."""
    grid = _only(maps)
    if _asked(layer) == (1, 1):
        return global_avg_pool(layer, maps)
    height, width = (_bins(n, m) for n, m in zip(grid.size, _asked(layer), strict=True))
    return Effect(grid.channels, (height, width), saves=(INPUT,))


def adaptive_max_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    effect = adaptive_avg_pool(layer, maps)
    indices = INDEX_BYTES * effect.grid.elements
    return replace(effect, saves=(INPUT,), image_bytes=indices)


def global_max_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """x.amax((2, 3)), whose gradient looks for the largest again."""
    return replace(global_avg_pool(layer, maps), saves=(INPUT, OUTPUT))


def pad(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """F.pad ahead of something other than a single convolution."""
    effect = pointwise(layer, maps)
    return effect if PADDING_MODES[layer.padding_mode].keeps_input else replace(effect, saves=())


def pointwise(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Whatever a function without weights makes of the pixels in its window (by default a single one)."""
    grid = _only(maps)
    return Effect(_out_channels(layer, grid), _windows(layer, grid), saves=None)


def unused(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Parameters that a forward pass does not use, such as auxiliary heads in eval mode: no map at all."""
    height, width = (irregular_axis(n, 0) for n in _only(maps).size)
    return Effect(0, (height, width), whole=True, params=None)


def norm(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = _only(maps)
    image_bytes, batch_bytes = norm_statistics(layer, grid)
    return Effect(
        grid.channels,
        _unchanged(grid),
        params=2 * grid.channels,
        saves=(INPUT,),
        image_bytes=image_bytes,
        batch_bytes=batch_bytes,
    )


def activation(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = _only(maps)
    return Effect(grid.channels, _unchanged(grid), saves=(activation_saves(layer),))


def dropout(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = _only(maps)
    return Effect(grid.channels, _unchanged(grid), image_bytes=NOISE_BYTES * grid.elements)


def identity(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = _only(maps)
    return Effect(grid.channels, _unchanged(grid), aliases=True)


def add(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = _joined(maps)
    return Effect(grid.channels, _unchanged(grid))


def multiply(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Each factor's gradient needs the other; a single input is scaled by one weight a channel."""
    grid = _joined(maps)
    return Effect(grid.channels, _unchanged(grid), params=grid.channels if len(maps) == 1 else 0, saves=(INPUT,))


def concat(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    if len({grid.size for grid in maps}) > 1:
        raise ValueError(f"a concat needs maps of one size, not {_sizes(maps)}")
    return Effect(sum(grid.channels for grid in maps), _unchanged(maps[0]))


def flatten(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = _only(maps)
    return Effect(grid.elements, _everything(grid), whole=True, aliases=True)


def linear(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = _only(maps)
    if grid.size != (1, 1):
        raise ValueError("a linear layer reads a vector, not a map; put a global_avg_pool or a flatten before it")
    channels = _out_channels(layer, grid)
    weights = channels * grid.channels
    params = weights + channels * layer.bias
    return Effect(channels, _unchanged(grid), params=params, macs=weights, saves=(INPUT,))


def readout(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """A 1x1 convolution that reads each unit of the last map: a classifier of its own at every place."""
    return replace(conv(layer, maps), widens=False)


def soft_argmax(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Of a map of scores and one of presence: row, column, presence and spread (models/head_modules.py). `kernel_size`,
    `stride` and `padding` are receptive field, effective stride and padding of the map: where its units lie."""
    grid = _only(maps)
    weights = FLOAT_BYTES * (grid.size[0] * grid.size[1] + 2)
    squares = FLOAT_BYTES * sum(grid.size)
    return Effect(4, _everything(grid), whole=True, saves=(INPUT,), image_bytes=weights, batch_bytes=squares)


def resample(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Bilinear, onto the `output_size` pixels of the image, by where the units lie (as in `soft_argmax`): one product
    with a matrix along each axis, the width first."""
    grid = _only(maps)
    (rows, columns), (height, width) = grid.size, _asked(layer)
    axes = irregular_axis(rows, height), irregular_axis(columns, width)
    return Effect(grid.channels, axes, whole=True, macs=grid.channels * rows * width * (columns + height))


def opaque(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Something that cannot be followed: the size of its map is taken on trust, nothing else is claimed."""
    if layer.output_size is None or layer.out_channels is None:
        raise ValueError("an opaque layer needs its output_size and out_channels, since they cannot be worked out")
    height, width = (irregular_axis(n, m) for n, m in zip(maps[0].size, layer.output_size, strict=True))
    return Effect(layer.out_channels, (height, width), params=None, macs=None, saves=None)


KINDS: dict[str, Callable[[Layer, Sequence[MapSize]], Effect]] = {
    "activation": activation,
    "adaptive_avg_pool": adaptive_avg_pool,
    "adaptive_max_pool": adaptive_max_pool,
    "add": add,
    "avg_pool": avg_pool,
    "blur_pool": blur_pool,
    "concat": concat,
    "conv": conv,
    "conv_transpose": conv_transpose,
    "dropout": dropout,
    "flatten": flatten,
    "global_avg_pool": global_avg_pool,
    "global_max_pool": global_max_pool,
    "identity": identity,
    "interpolate": interpolate,
    "linear": linear,
    "max_pool": max_pool,
    "multiply": multiply,
    "norm": norm,
    "opaque": opaque,
    "pad": pad,
    "pointwise": pointwise,
    "readout": readout,
    "resample": resample,
    "slice": cut,
    "soft_argmax": soft_argmax,
    "space_to_depth": space_to_depth,
    "unused": unused,
}


def _only(maps: Sequence[MapSize]) -> MapSize:
    if len(maps) > 1:
        raise ValueError(f"it reads one map, not {len(maps)}")
    return maps[0]


def _asked(layer: Layer) -> Pair:
    if layer.output_size is None:
        raise ValueError(f"an {layer.kind} needs its output_size, (height, width)")
    return layer.output_size


def _out_channels(layer: Layer, grid: MapSize) -> int:
    if layer.out_channels is None:
        return grid.channels
    if layer.out_channels < 1:
        raise ValueError(f"out_channels={layer.out_channels} is not allowed; it must be an integer of 1 or more")
    return layer.out_channels


def _windows(layer: Layer, grid: MapSize) -> Axes:
    height, width = (
        conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=p)
        for n, k, s, d, p in zip(grid.size, layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True)
    )
    return height, width


def _pool_windows(layer: Layer, grid: MapSize) -> Axes:
    height, width = (
        pool_axis(n, kernel_size=k, stride=s, dilation=d, padding=p, ceil_mode=layer.ceil_mode)
        for n, k, s, d, p in zip(grid.size, layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True)
    )
    return height, width


def _bins(size: int, count: int) -> AxisGeometry:
    if count < 1:
        raise ValueError(f"output_size={count} is not allowed; it must be an integer of 1 or more")
    if size % count == 0:
        return pool_axis(size, kernel_size=size // count)
    widest = max(-(-(i + 1) * size // count) - i * size // count for i in range(count))
    return irregular_axis(size, count, kernel_size=widest)


def _unchanged(grid: MapSize) -> Axes:
    return conv_axis(grid.size[0], kernel_size=1), conv_axis(grid.size[1], kernel_size=1)


def _everything(grid: MapSize) -> Axes:
    return whole_axis(grid.size[0]), whole_axis(grid.size[1])


def _joined(maps: Sequence[MapSize]) -> MapSize:
    """The common size of maps that are joined element by element; a single channel or pixel is broadcast."""
    grid = max(maps, key=lambda grid: grid.elements)
    if any(other.channels not in (grid.channels, 1) or other.size not in (grid.size, (1, 1)) for other in maps):
        raise ValueError(f"maps that are joined element by element must be of one size, not {_sizes(maps)}")
    return grid


def _sizes(maps: Sequence[MapSize]) -> str:
    return " and ".join(f"{grid.channels}x{grid.size[0]}x{grid.size[1]}" for grid in maps)

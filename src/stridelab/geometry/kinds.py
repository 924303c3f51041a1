"""What each kind of layer does to a map: one function a kind, one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from stridelab.geometry.axis import interpolated_axis, irregular_axis, pool_axis, slice_axis, transposed_axis
from stridelab.geometry.effect import INPUT, OUTPUT, Effect, MapSize
from stridelab.geometry.layer_plan import Layer
from stridelab.geometry.layer_windows import (
    asked_size,
    bins_of,
    joined_map,
    only_map,
    out_channels_of,
    pixels_of,
    pool_windows_of,
    sizes_of,
    whole_map,
    windows_of,
)
from stridelab.geometry.padding import PADDING_MODES
from stridelab.geometry.saved_tensors import FLOAT_BYTES, INDEX_BYTES, NOISE_BYTES, activation_saves, norm_statistics


def conv(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = only_map(maps)
    height, width = axes = windows_of(layer, grid)
    channels = out_channels_of(layer, grid)
    if layer.groups < 1 or grid.channels % layer.groups or channels % layer.groups:
        raise ValueError(f"groups={layer.groups} must divide its {grid.channels} input and {channels} output channels")
    weights = channels * (grid.channels // layer.groups) * height.kernel_size * width.kernel_size
    macs = weights * height.output_size * width.output_size
    params = weights + channels * layer.bias
    return Effect(channels, axes, widens=True, params=params, macs=macs, saves=(INPUT,))


def conv_transpose(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """`padding` is PyTorch's, cut off the result; `output_size` the result's."""
    grid = only_map(maps)
    height, width = (
        transposed_axis(n, m, kernel_size=k, stride=s, dilation=d, padding=p if isinstance(p, int) else 0)
        for n, m, k, s, d, p in zip(
            grid.size, asked_size(layer), layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True
        )
    )
    channels = out_channels_of(layer, grid)
    weights = grid.channels * (channels // layer.groups) * height.kernel_size * width.kernel_size
    params, macs = weights + channels * layer.bias, weights * grid.size[0] * grid.size[1]
    return Effect(channels, (height, width), widens=True, params=params, macs=macs, saves=(INPUT,))


def interpolate(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """`function`: PyTorch's mode (nearest, nearest-exact, bilinear), or aligned: bilinear with the corners of both maps
    on each other."""
    grid = only_map(maps)
    height, width = (
        interpolated_axis(n, m, mode=layer.function) for n, m in zip(grid.size, asked_size(layer), strict=True)
    )
    return Effect(out_channels_of(layer, grid), (height, width), saves=None)


def cut(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """A slice: `stride` is its step, and `padding` how much is left out before it, negative."""
    grid = only_map(maps)
    height, width = (
        slice_axis(n, start=-p[0] if isinstance(p, tuple) else 0, step=s, count=m)
        for n, s, p, m in zip(grid.size, layer.stride, layer.padding, asked_size(layer), strict=True)
    )
    return Effect(out_channels_of(layer, grid), (height, width), saves=None)


def max_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = only_map(maps)
    height, width = axes = pool_windows_of(layer, grid)
    indices = INDEX_BYTES * grid.channels * height.output_size * width.output_size
    return Effect(grid.channels, axes, widens=True, saves=(INPUT,), image_bytes=indices)


def avg_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = only_map(maps)
    return Effect(grid.channels, pool_windows_of(layer, grid), widens=True, saves=(INPUT,))


def blur_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Each channel convolved with one fixed filter, which is no parameter and costs MACs all the same."""
    grid = only_map(maps)
    height, width = axes = windows_of(layer, grid)
    macs = grid.channels * height.kernel_size * width.kernel_size * height.output_size * width.output_size
    return Effect(grid.channels, axes, widens=True, macs=macs, saves=(INPUT,))


def space_to_depth(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Blocks of `stride` pixels become channels of one pixel (Sajjadi et al. 2018; SPD-Conv): nothing is lost."""
    grid = only_map(maps)
    height, width = layer.stride
    if grid.size[0] % height or grid.size[1] % width:
        raise ValueError(
            f"its sides must be multiples of {height} and {width} to be cut into blocks of {height}x{width}"
        )
    axes = (pool_axis(grid.size[0], kernel_size=height), pool_axis(grid.size[1], kernel_size=width))
    return Effect(grid.channels * height * width, axes)


def global_avg_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """x.mean((2, 3)), whose gradient needs no more than the size."""
    grid = only_map(maps)
    return Effect(grid.channels, whole_map(grid), whole=True)


def adaptive_avg_pool(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Bin i of m over n columns is [floor(i n / m), ceil((i + 1) n / m)); PyTorch computes 1x1 as a mean."""
    grid = only_map(maps)
    if asked_size(layer) == (1, 1):
        return global_avg_pool(layer, maps)
    height, width = (bins_of(n, m) for n, m in zip(grid.size, asked_size(layer), strict=True))
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
    grid = only_map(maps)
    return Effect(out_channels_of(layer, grid), windows_of(layer, grid), saves=None)


def unused(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Parameters that a forward pass does not use, such as auxiliary heads in eval mode: no map at all."""
    height, width = (irregular_axis(n, 0) for n in only_map(maps).size)
    return Effect(0, (height, width), whole=True, params=None)


def norm(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = only_map(maps)
    image_bytes, batch_bytes = norm_statistics(layer, grid)
    return Effect(
        grid.channels,
        pixels_of(grid),
        params=2 * grid.channels,
        saves=(INPUT,),
        image_bytes=image_bytes,
        batch_bytes=batch_bytes,
    )


def activation(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = only_map(maps)
    return Effect(grid.channels, pixels_of(grid), saves=(activation_saves(layer),))


def dropout(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = only_map(maps)
    return Effect(grid.channels, pixels_of(grid), image_bytes=NOISE_BYTES * grid.elements)


def identity(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = only_map(maps)
    return Effect(grid.channels, pixels_of(grid), aliases=True)


def add(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = joined_map(maps)
    return Effect(grid.channels, pixels_of(grid))


def multiply(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Each factor's gradient needs the other; a single input is scaled by one weight a channel."""
    grid = joined_map(maps)
    return Effect(grid.channels, pixels_of(grid), params=grid.channels if len(maps) == 1 else 0, saves=(INPUT,))


def concat(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    if len({grid.size for grid in maps}) > 1:
        raise ValueError(f"a concat needs maps of one size, not {sizes_of(maps)}")
    return Effect(sum(grid.channels for grid in maps), pixels_of(maps[0]))


def flatten(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = only_map(maps)
    return Effect(grid.elements, whole_map(grid), whole=True, aliases=True)


def linear(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    grid = only_map(maps)
    if grid.size != (1, 1):
        raise ValueError("a linear layer reads a vector, not a map; put a global_avg_pool or a flatten before it")
    channels = out_channels_of(layer, grid)
    weights = channels * grid.channels
    params = weights + channels * layer.bias
    return Effect(channels, pixels_of(grid), params=params, macs=weights, saves=(INPUT,))


def readout(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """A 1x1 convolution that reads each unit of the last map: a classifier of its own at every place."""
    return replace(conv(layer, maps), widens=False)


def soft_argmax(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Of a map of scores and one of presence: row, column, presence and spread (models/head_modules.py). `kernel_size`,
    `stride` and `padding` are receptive field, effective stride and padding of the map: where its units lie."""
    grid = only_map(maps)
    weights = FLOAT_BYTES * (grid.size[0] * grid.size[1] + 2)
    squares = FLOAT_BYTES * sum(grid.size)
    return Effect(4, whole_map(grid), whole=True, saves=(INPUT,), image_bytes=weights, batch_bytes=squares)


def resample(layer: Layer, maps: Sequence[MapSize]) -> Effect:
    """Bilinear, onto the `output_size` pixels of the image, by where the units lie (as in `soft_argmax`): one product
    with a matrix along each axis, the width first."""
    grid = only_map(maps)
    (rows, columns), (height, width) = grid.size, asked_size(layer)
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

"""The windows of a layer on the maps that it reads, and what those must be."""

from __future__ import annotations

from collections.abc import Sequence

from stridelab.geometry.axis import AxisGeometry, conv_axis, irregular_axis, pool_axis, whole_axis
from stridelab.geometry.effect import Axes, MapSize
from stridelab.geometry.layer_plan import Layer
from stridelab.geometry.padding import Pair


def only_map(maps: Sequence[MapSize]) -> MapSize:
    if len(maps) > 1:
        raise ValueError(f"it reads one map, not {len(maps)}")
    return maps[0]


def asked_size(layer: Layer) -> Pair:
    if layer.output_size is None:
        raise ValueError(f"an {layer.kind} needs its output_size, (height, width)")
    return layer.output_size


def out_channels_of(layer: Layer, grid: MapSize) -> int:
    if layer.out_channels is None:
        return grid.channels
    if layer.out_channels < 1:
        raise ValueError(f"out_channels={layer.out_channels} is not allowed; it must be an integer of 1 or more")
    return layer.out_channels


def windows_of(layer: Layer, grid: MapSize) -> Axes:
    height, width = (
        conv_axis(n, kernel_size=k, stride=s, dilation=d, padding=p)
        for n, k, s, d, p in zip(grid.size, layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True)
    )
    return height, width


def pool_windows_of(layer: Layer, grid: MapSize) -> Axes:
    height, width = (
        pool_axis(n, kernel_size=k, stride=s, dilation=d, padding=p, ceil_mode=layer.ceil_mode)
        for n, k, s, d, p in zip(grid.size, layer.kernel_size, layer.stride, layer.dilation, layer.padding, strict=True)
    )
    return height, width


def bins_of(size: int, count: int) -> AxisGeometry:
    if count < 1:
        raise ValueError(f"output_size={count} is not allowed; it must be an integer of 1 or more")
    if size % count == 0:
        return pool_axis(size, kernel_size=size // count)
    widest = max(-(-(i + 1) * size // count) - i * size // count for i in range(count))
    return irregular_axis(size, count, kernel_size=widest)


def pixels_of(grid: MapSize) -> Axes:
    return conv_axis(grid.size[0], kernel_size=1), conv_axis(grid.size[1], kernel_size=1)


def whole_map(grid: MapSize) -> Axes:
    return whole_axis(grid.size[0]), whole_axis(grid.size[1])


def joined_map(maps: Sequence[MapSize]) -> MapSize:
    """The common size of maps that are joined element by element; a single channel or pixel is broadcast."""
    grid = max(maps, key=lambda grid: grid.elements)
    if any(other.channels not in (grid.channels, 1) or other.size not in (grid.size, (1, 1)) for other in maps):
        raise ValueError(f"maps that are joined element by element must be of one size, not {sizes_of(maps)}")
    return grid


def sizes_of(maps: Sequence[MapSize]) -> str:
    return " and ".join(f"{grid.channels}x{grid.size[0]}x{grid.size[1]}" for grid in maps)

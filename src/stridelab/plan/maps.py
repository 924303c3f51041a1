"""The maps of a network from the image down, and what one unit of the last map sees of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from stridelab.geometry import IMAGE, LayerGeometry, Pair
from stridelab.text import side

from .text import pads, policy
from .variant_row import MANY_MAPS, Figures, has_windows

Region = tuple[Pair, Pair]
"""((first row, last row), (first column, last column)); may reach outside its map, into padding."""


@dataclass(frozen=True)
class Rung:
    """A map, and the layer that made it."""

    name: str
    label: tuple[str, ...]
    """The layer, in a few words a line; empty for the image."""
    channels: int
    size: Pair
    seen: Region
    """By the marked unit."""
    pad: tuple[Pair, Pair] = ((0, 0), (0, 0))
    """What the next layer adds around it."""
    unread: tuple[frozenset[int], frozenset[int]] = (frozenset(), frozenset())
    """Rows and columns, padding included (negative ones too), under no tap of the next layer."""


def ladder(figures: Figures) -> list[Rung]:
    """The image, and each map that windows make; in deep networks, the last one of each size."""
    windows = [layer for layer in figures.layers if has_windows(layer)]
    if not windows:
        return []
    seen = seen_by(windows[-1], middle(windows[-1]), figures.layers)
    nexts: list[LayerGeometry | None] = [*windows, None]
    rungs = [
        Rung(
            name=layer.name if layer else IMAGE,
            label=label_of(layer) if layer else (),
            channels=layer.out_channels if layer else figures.layers[0].in_channels,
            size=layer.output_size if layer else figures.image_size,
            seen=seen[layer.name if layer else IMAGE],
            pad=following.pad if following else Rung.pad,
            unread=(unread(following, 0), unread(following, 1)) if following else Rung.unread,
        )
        for layer, following in zip([None, *windows], nexts, strict=True)
    ]
    return rungs if len(rungs) <= MANY_MAPS else one_a_size(rungs)


def one_a_size(rungs: Sequence[Rung]) -> list[Rung]:
    """The image and the last map of each size, labelled with all the layers between them."""
    kept, names = [rungs[0]], list[str]()
    for rung, following in zip_longest(rungs[1:], rungs[2:]):
        names.append(rung.name)
        if following is None or following.size != rung.size:
            few = len(names) == 1
            label = rung.label if few else (f"{names[0]} to {names[-1]}", f"{len(names)} layers")
            kept.append(replace(rung, label=label))
            names = []
    return kept


def label_of(layer: LayerGeometry) -> tuple[str, ...]:
    kernel = "x".join(map(str, layer.kernel_size))
    words = [layer.name, f"{kernel}, stride {side(layer.stride)}"]
    if layer.dilation != (1, 1):
        words.append(f"dilation {side(layer.dilation)}")
    return (*words, pad_words(layer))


def pad_words(layer: LayerGeometry) -> str:
    """`pad 1 (half)`, `pad 0+1 (same)`: before and after."""
    height, width = layer.pad
    if not any((*height, *width)):
        return "no padding"
    amount = f"{height[0]}+{height[1]}" if height == width and height[0] != height[1] else pads(layer.pad)
    named = policy(layer.padding) or (layer.padding_mode if layer.padding_mode != "zeros" else "")
    return f"pad {amount}" + (f" ({named})" if named else "")


def middle(layer: LayerGeometry) -> Pair:
    return (layer.output_size[0] - 1) // 2, (layer.output_size[1] - 1) // 2


def seen_by(layer: LayerGeometry, unit: Pair, layers: Sequence[LayerGeometry]) -> dict[str, Region]:
    """What `unit` of `layer` sees of every map before it: the hull over all paths."""
    row, column = unit
    seen: dict[str, Region] = {layer.name: ((row, row), (column, column))}
    for reader in reversed(layers[: layers.index(layer) + 1]):
        if reader.name in seen:
            rows, columns = seen[reader.name]
            region = reads(reader, 0, rows), reads(reader, 1, columns)
            for source in reader.inputs:
                seen[source] = hull(seen[source], region) if source in seen else region
    return seen


def reads(layer: LayerGeometry, axis: int, units: Pair) -> Pair:
    """The columns of its input under the windows of a range of units."""
    stride, before = layer.stride[axis], layer.pad[axis][0]
    span = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
    return units[0] * stride - before, units[1] * stride - before + span - 1


def hull(one: Region, other: Region) -> Region:
    rows, columns = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))
    return rows, columns


def unread(layer: LayerGeometry, axis: int) -> frozenset[int]:
    before, after = layer.pad[axis]
    stride, dilation = layer.stride[axis], layer.dilation[axis]
    read = {
        unit * stride + tap * dilation - before
        for unit in range(layer.output_size[axis])
        for tap in range(layer.kernel_size[axis])
    }
    return frozenset(range(-before, layer.input_size[axis] + after)) - read

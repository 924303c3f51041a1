"""The maps of a network from the image down, and what one unit of the last map sees of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.layer_plan import IMAGE
from stridelab.geometry.padding import Pair
from stridelab.geometry.totals import MANY_MAPS, totals, windowed
from stridelab.text import by, pads, policy, side

Region = tuple[Pair, Pair]
"""((first row, last row), (first column, last column)); may reach outside its map, into padding."""


@dataclass(frozen=True)
class Map:
    """A feature map, or the image, and the layer that made it."""

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


def maps_of(layers: Sequence[LayerGeometry]) -> list[Map]:
    """The image, and each map that windows make; in deep networks, the last one of each size."""
    windows, last = windowed(layers), totals(layers).last_map
    if not windows or last is None:
        return []
    seen = seen_by(last, middle(last), layers)
    nexts: list[LayerGeometry | None] = [*windows, None]
    maps = [
        Map(
            name=layer.name if layer else IMAGE,
            label=label_of(layer) if layer else (),
            channels=layer.out_channels if layer else layers[0].in_channels,
            size=layer.output_size if layer else layers[0].input_size,
            seen=seen.get(layer.name if layer else IMAGE, ((0, -1), (0, -1))),
            pad=following.pad if following else Map.pad,
            unread=(following.unread(0), following.unread(1)) if following else Map.unread,
        )
        for layer, following in zip([None, *windows], nexts, strict=True)
    ]
    return maps if len(maps) <= MANY_MAPS else one_a_size(maps)


def one_a_size(maps: Sequence[Map]) -> list[Map]:
    """The image and the last map of each size, labelled with all the layers between them."""
    kept, names = [maps[0]], list[str]()
    for this, following in zip_longest(maps[1:], maps[2:]):
        names.append(this.name)
        if following is None or following.size != this.size:
            label = this.label if len(names) == 1 else (names[0], f"to {names[-1]}", f"{len(names)} layers")
            kept.append(replace(this, label=label))
            names = []
    return kept


def label_of(layer: LayerGeometry) -> tuple[str, ...]:
    words = [layer.name, f"{by(layer.kernel_size)}, stride {side(layer.stride)}"]
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
            region = reader.window(0, rows), reader.window(1, columns)
            for source in reader.inputs:
                seen[source] = hull(seen[source], region) if source in seen else region
    return seen


def hull(one: Region, other: Region) -> Region:
    rows, columns = ((min(a[0], b[0]), max(a[1], b[1])) for a, b in zip(one, other, strict=True))
    return rows, columns

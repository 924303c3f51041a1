"""The maps of a network from the image down, and what one unit of the last map sees of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stridelab.geometry import IMAGE, LayerGeometry, Pair

from .row import MANY_MAPS, Figures, has_windows
from .words import pads, policy, side

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
    if len(rungs) <= MANY_MAPS:
        return rungs
    kept = [at for at, rung in enumerate(rungs) if at in (0, len(rungs) - 1) or rung.size != rungs[at + 1].size]
    return [rungs[at] for at in kept]


def label_of(layer: LayerGeometry) -> tuple[str, ...]:
    kernel = "x".join(map(str, layer.kernel_size))
    words = [layer.name, f"{kernel}, stride {side(layer.stride)}"]
    if layer.dilation != (1, 1):
        words.append(f"dilation {side(layer.dilation)}")
    name = policy(layer.padding)
    words.append(f"{name} (pad {pads(layer.pad)})" if name else f"pad {pads(layer.pad)}")
    return tuple(words)


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

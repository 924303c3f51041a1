"""A whole network in a few figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.padding import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over all layers, None when one of them is unknown."""

    params: int | None
    macs: int | None
    activation_bytes: int | None
    params_at_least: int
    """The sum of what is known, as in the next two."""
    macs_at_least: int
    activation_bytes_at_least: int
    last_map: LayerGeometry | None
    """The last one before a global pool or a flatten; None where there is no map at all."""


def totals(layers: Sequence[LayerGeometry]) -> Totals:
    return Totals(
        params=add_up(layer.params for layer in layers),
        macs=add_up(layer.macs for layer in layers),
        activation_bytes=add_up(layer.activation_bytes for layer in layers),
        params_at_least=sum(layer.params or 0 for layer in layers),
        macs_at_least=sum(layer.macs or 0 for layer in layers),
        activation_bytes_at_least=sum(layer.activation_bytes or 0 for layer in layers),
        last_map=next((layer for layer in reversed(layers) if not layer.whole), None),
    )


def add_up(parts: Iterable[int | None]) -> int | None:
    """The sum, unknown when any part is."""
    total = 0
    for part in parts:
        if part is None:
            return None
        total += part
    return total


MANY_MAPS = 8
"""Of more than these, only the last of each size is shown, or the changes are listed."""


def map_sizes(image: Pair, layers: Iterable[LayerGeometry]) -> list[Pair]:
    """Of the image and of each map that windows make; of a deep network only the changes."""
    sizes = [image, *(layer.output_size for layer in windowed(layers))]
    return sizes if len(sizes) <= MANY_MAPS else [size for size, _ in groupby(sizes)]


def windowed(layers: Iterable[LayerGeometry]) -> list[LayerGeometry]:
    """The layers that slide windows over a map."""
    return [layer for layer in layers if not layer.whole and (layer.kind == "conv" or layer.kernel_size != (1, 1))]

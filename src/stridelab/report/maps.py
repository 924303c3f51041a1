"""What the page's script needs to show feature maps as a person asks: layer, epoch, image, channel, scale."""

from __future__ import annotations

import zlib
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import NDArray

from stridelab.geometry import LayerGeometry
from stridelab.report.figures.feature_maps import ShownMaps, shown_maps
from stridelab.report.figures.style import NothingToDraw, left_out, looks

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

MOST_BYTES = 1 << 20
"""Of all maps together, before they are packed; beyond it fewer channels are taken, then fewer images."""
SHADES = 17


def map_data(comparison: Comparison) -> dict[str, Any]:
    """The maps of the variants that the figure shows, each tile in 8 bits of its own scale; {} where there are none."""
    try:
        shown = shown_maps(comparison, which=-1)
    except NothingToDraw:
        return {}
    look, first = looks(comparison), next(iter(shown.maps.values()))
    pictures = first.get("images", np.zeros((1, 1, 1, 1), np.uint8))
    images, channels = _counts(shown, images=len(pictures))
    known = {
        name: {one.name: one for one in comparison.geometries.get(name, []) if one.name in shown.layers}
        for name in shown.maps
    }
    return {
        "steps": shown.steps,
        "layers": shown.layers,
        "channels": channels,
        "images": [_packed(image) for image in np.moveaxis(pictures[:images], 1, -1)],
        "size": [*pictures.shape[2:], pictures.shape[1]],
        "note": left_out(len(shown.maps), len(comparison.names), "are shown"),
        "palettes": [
            [to_hex(colormaps[name](i / (SHADES - 1))) for i in range(SHADES)] for name in ("viridis", "RdBu_r")
        ],
        "variants": [
            {
                "name": comparison.short(name),
                "color": look[name].color,
                "fields": {layer: _field(one) for layer, one in known[name].items()},
                "maps": {
                    f"{step}/{layer}": _tiles(maps[f"{step}/{layer}"][:images, :channels])
                    for step in shown.steps
                    for layer in shown.layers
                },
            }
            for name, maps in shown.maps.items()
        ],
    }


def _counts(shown: ShownMaps, *, images: int) -> tuple[int, int]:
    """As many images and channels as fit."""
    stacks = [maps[f"{step}/{layer}"] for maps in shown.maps.values() for step in shown.steps for layer in shown.layers]
    channels = min(stack.shape[1] for stack in stacks)
    one_tile_each = sum(stack.shape[2] * stack.shape[3] for stack in stacks)
    tiles = max(MOST_BYTES // one_tile_each, 1)
    images = max(min(images, tiles // min(channels, 4)), 1)
    return images, max(min(channels, tiles // images), 1)


def _tiles(maps: NDArray[Any]) -> dict[str, Any]:
    """Values from -top to top as 1 to 255, images and channels one after the other; top of each tile."""
    values = np.nan_to_num(maps.astype(np.float32), posinf=0.0, neginf=0.0)
    top = np.abs(values).max(axis=(2, 3), keepdims=True)
    scaled = 128 + np.rint(127 * values / np.maximum(top, 1e-12))
    return {
        "size": list(maps.shape[2:]),
        "tops": [float(f"{one:.4g}") for one in top.ravel()],
        "signed": bool((values < 0).any()),
        "data": _packed(scaled.astype(np.uint8)),
    }


def _packed(values: NDArray[np.uint8]) -> str:
    return b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()


def _field(layer: LayerGeometry) -> list[list[float]] | None:
    """(first, behind the last) row and column of the first unit's field, and the step to the next unit's."""
    if layer.region is None or layer.effective_stride is None:
        return None
    return [
        [first, last + 1, float(step)] for (first, last), step in zip(layer.region, layer.effective_stride, strict=True)
    ]

"""Folds explicit pads into the convolutions that they were made for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from stridelab.geometry import AxisPadding, Layer, conv_axis
from stridelab.geometry.effect import MapSize


def fold_pads(layers: Iterable[Layer], grids: Mapping[str, MapSize]) -> list[Layer]:
    """F.pad, and an unpadded convolution that alone reads its result, are one padded convolution. `grids`: the maps."""
    layers = list(layers)
    readers = Counter(source for layer in layers for source in layer.inputs)
    kept: dict[str, Layer] = {}
    renamed: dict[str, str] = {}
    for layer in layers:
        layer = replace(layer, inputs=tuple(renamed.get(source, source) for source in layer.inputs))
        pad = kept.get(layer.inputs[0])
        if pad and pad.kind == "pad" and readers[pad.name] == 1 and is_unpadded(layer):
            del kept[pad.name]
            own = layer.name.startswith(f"{pad.name}.")  # made by one module, by its own rule
            renamed[layer.name] = pad.name if own else layer.name
            layer = replace(
                layer,
                name=renamed[layer.name],
                inputs=pad.inputs,
                padding=own_pads(pad, layer, grids[pad.inputs[0]]) if own else pad.padding,
                padding_mode=pad.padding_mode,
                activation_bytes=(pad.activation_bytes or 0) + (layer.activation_bytes or 0),
                macs=layer.macs + (pad.macs or 0) if layer.macs is not None else pad.macs or None,
            )
        kept[layer.name] = layer
    return list(kept.values())


def is_unpadded(layer: Layer) -> bool:
    return layer.kind == "conv" and layer.padding in ((0, 0), ("valid", "valid"))


def own_pads(pad: Layer, conv: Layer, grid: MapSize) -> tuple[AxisPadding, AxisPadding]:
    """`same` where that is what it comes to on this map, as in timm's Conv2dSame; else the numbers."""
    same = (
        conv_axis(n, kernel_size=k, stride=s, dilation=d, padding="same")
        for n, k, s, d in zip(grid.size, conv.kernel_size, conv.stride, conv.dilation, strict=True)
    )
    alike = tuple((axis.pad_before, axis.pad_after) for axis in same) == pad.padding
    return ("same", "same") if alike and pad.padding_mode == "zeros" else pad.padding

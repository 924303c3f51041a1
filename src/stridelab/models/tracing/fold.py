"""Folds explicit pads into the convolutions that they were made for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from stridelab.geometry import Layer


def fold_pads(layers: Iterable[Layer]) -> list[Layer]:
    """F.pad, and an unpadded convolution that alone reads its result, are one padded convolution."""
    layers = list(layers)
    readers = Counter(source for layer in layers for source in layer.inputs)
    kept: dict[str, Layer] = {}
    renamed: dict[str, str] = {}
    for layer in layers:
        layer = replace(layer, inputs=tuple(renamed.get(source, source) for source in layer.inputs))
        pad = kept.get(layer.inputs[0])
        if pad and pad.kind == "pad" and readers[pad.name] == 1 and is_unpadded(layer):
            del kept[pad.name]
            renamed[layer.name] = pad.name if layer.name.startswith(f"{pad.name}.") else layer.name
            layer = replace(
                layer,
                name=renamed[layer.name],
                inputs=pad.inputs,
                padding=pad.padding,
                padding_mode=pad.padding_mode,
                activation_bytes=(pad.activation_bytes or 0) + (layer.activation_bytes or 0),
                macs=layer.macs + (pad.macs or 0) if layer.macs is not None else pad.macs or None,
            )
        kept[layer.name] = layer
    return list(kept.values())


def is_unpadded(layer: Layer) -> bool:
    return layer.kind == "conv" and layer.padding in ((0, 0), ("valid", "valid"))

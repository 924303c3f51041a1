"""Later strides traded for dilation, so that the last map is denser and sees as much (Yu and Koltun 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from torch import nn

from stridelab.geometry import LayerGeometry, Pair, measure
from stridelab.text import side

from .trace import trace


def dilate(module: nn.Module, output_stride: int, images: tuple[int, int, int] | None) -> None:
    """A stride that would carry the effective stride beyond `output_stride` becomes 1, and each kernel behind it is
    dilated by what it lost: it reads the pixels that it read before. ValueError where a layer cannot be dilated."""
    channels, size = (images[0], images[1:]) if images else (None, (256, 256))
    layers = measure(trace(module, size, input_channels=channels))
    last = next((layer for layer in reversed(layers) if layer.effective_stride and not layer.whole), None)
    if last is None or last.effective_stride is None:
        raise ValueError(f"model.output_stride={output_stride}: the network's effective stride is not known")
    if min(last.effective_stride) < output_stride:
        raise ValueError(
            f"model.output_stride={output_stride}: the network's is {side(last.effective_stride)} as it is, and "
            "strides are traded for dilation, not made"
        )
    modules = dict(module.named_modules())
    for layer in layers:
        found = modules.get(layer.name)
        if found is None or layer.effective_stride is None or not hasattr(found, "stride"):
            continue
        before = [Fraction(out) / step for out, step in zip(layer.effective_stride, layer.stride, strict=True)]
        factor = [max(Fraction(1), step / output_stride) for step in before]
        stride = [
            min(Fraction(out), Fraction(output_stride)) / min(step, Fraction(output_stride))
            for out, step in zip(layer.effective_stride, before, strict=True)
        ]
        if any(number.denominator != 1 for number in (*factor, *stride)):
            raise ValueError(
                f"model.output_stride={output_stride}: {layer.name} goes from an effective stride of "
                f"{side(before)} to {side(layer.effective_stride)}; choose a number that is among them"
            )
        give(layer.name, found, stride=whole(stride), factor=whole(factor), output_stride=output_stride)
    refuse_other_fields(layers, measure(trace(module, size, input_channels=channels)), output_stride)


def refuse_other_fields(before: Sequence[LayerGeometry], after: Sequence[LayerGeometry], output_stride: int) -> None:
    """ValueError where a map has not the stride and the receptive field that were promised: it was made by a function,
    which has no settings here, or by a module that is called several times, which has one for all. Pools of a map of
    any size have fields that depend on that size."""
    sized: set[str] = set()
    for old, new in zip(before, after, strict=True):
        if old.kind.startswith(("adaptive", "global")) or (not old.gated and sized.intersection(old.inputs)):
            sized.add(old.name)
        elif old.effective_stride and new.effective_stride and not old.whole:
            wanted = tuple(min(step, output_stride) for step in old.effective_stride), old.receptive_field
            if (found := (new.effective_stride, new.receptive_field)) != wanted:
                raise ValueError(
                    f"model.output_stride={output_stride}: {old.name} would have {stride_and_field(*found)}, not "
                    f"{stride_and_field(*wanted)}; a stride is traded for dilation in modules that are called once, "
                    "not in those that are called several times, nor in functions such as F.max_pool2d"
                )


def stride_and_field(stride: Any, receptive_field: Pair | None) -> str:
    return f"an effective stride of {side(stride)} and a receptive field of {side(receptive_field)}"


def whole(numbers: Sequence[Fraction]) -> Pair:
    return int(numbers[0]), int(numbers[1])


def give(name: str, layer: Any, *, stride: Pair, factor: Pair, output_stride: int) -> None:
    kernel = both(layer.kernel_size)
    if stride != both(layer.stride):
        layer.stride = stride
    if factor == (1, 1) or kernel == (1, 1):
        return
    if not hasattr(layer, "dilation") or not isinstance(layer.padding, int | tuple):
        raise ValueError(f"model.output_stride={output_stride}: {name} is a {type(layer).__name__}, without dilation")
    dilation, padding = both(layer.dilation), both(layer.padding)
    layer.dilation = (dilation[0] * factor[0], dilation[1] * factor[1])
    layer.padding = (padding[0] * factor[0], padding[1] * factor[1])
    renew_pads(layer)


def renew_pads(layer: Any) -> None:
    """What a convolution that pads with other than zeros gives F.pad."""
    if isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple):
        layer._reversed_padding_repeated_twice = [pad for pad in reversed(layer.padding) for _ in range(2)]


def both(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)

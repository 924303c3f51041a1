"""A kernel of PyTorch's, for CPUs, that writes past its memory."""

from __future__ import annotations

from collections.abc import Sequence

from stridelab.geometry import LayerGeometry
from stridelab.plan import Variant
from stridelab.text import plural

BLOCK = 16
"""Channels that the kernel takes at a time, with AVX-512; 8 with AVX2."""


def spoilt_on_cpu(variants: Sequence[Variant]) -> str:
    """What a person is to know of strided 1x1 convolutions of few channels, channels last, whose backward pass writes
    past its workspace (https://github.com/uxlfoundation/oneDNN/issues/6035; seen with PyTorch 2.11 and 2.14 on maps of
    48 px and more, as a crash; others saw wrong gradients); empty: no variant has any."""
    found = {
        variant.name: layer
        for variant in variants
        for layer in variant.layers or ()
        if is_on_cpu_channels_last(variant) and is_hit(layer)
    }
    if not found:
        return ""
    name, layer = next(iter(found.items()))
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    channels = plural(layer.in_channels, "channel")
    return (
        f"{name}{more}: {layer.name} is a 1x1 convolution with a stride, of {channels}. With fewer than {BLOCK}, "
        "PyTorch's kernel for CPUs writes past its memory (oneDNN issue 6035): a run may crash, or its gradients be "
        "wrong. trainer.channels_last=false avoids it."
    )


def is_on_cpu_channels_last(variant: Variant) -> bool:
    trainer = variant.config.trainer
    return trainer.accelerator in ("cpu", "auto") and trainer.channels_last


def is_hit(layer: LayerGeometry) -> bool:
    is_strided_point = layer.kind == "conv" and tuple(layer.kernel_size) == (1, 1) and max(layer.stride) > 1
    return is_strided_point and layer.in_channels // layer.groups < BLOCK

"""Which tensors PyTorch keeps for the backward pass of each layer, and how many bytes they are.

Measured with saved_tensors_hooks on PyTorch 2.14: a convolution and a linear layer keep their input (their padded copy,
where F.pad has to run first), a batch norm its input, a ReLU its result, a max pool its input and int64 indices, an
average pool its input; a mean, an addition, a concatenation and a view keep nothing. Parameters are not counted here,
nor statistics per channel, which do not grow with the batch.

A tensor that several layers keep is counted once, for the first of them in the plan's order. Whether an operation is in
place does not change the sum: what it would overwrite, nobody may have kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stridelab.geometry.kinds import INPUT, OUTPUT, Effect, Grid
from stridelab.geometry.plan import Layer, Pair

FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Source:
    """A map, as memory."""

    grid: Grid
    storage: str
    """The layer that its memory belongs to."""
    needs_grad: bool
    """Whether a gradient flows back into it: not into the image."""


def pads_explicitly(pad: tuple[Pair, Pair], padding_mode: str) -> bool:
    """Whether a padded copy of the map is made first (F.pad), because no built-in pad is symmetric zeros."""
    (top, bottom), (left, right) = pad
    return top != bottom or left != right or (padding_mode != "zeros" and (top > 0 or left > 0))


def kept_bytes(layer: Layer, effect: Effect, sources: Sequence[Source], saved: set[str]) -> int | None:
    """Bytes kept a image at 32 bits, beyond the storages in `saved`, to which this layer's are added."""
    if effect.saves is None:
        return None
    kept: dict[str, int] = {}
    copied = 0
    if effect.saves == OUTPUT:
        kept[layer.name] = effect.grid.elements
    elif effect.saves == INPUT and pads_explicitly(effect.pad, layer.padding_mode):
        (source,) = sources
        copied = source.grid.channels * _padded_area(effect)
        if layer.padding_mode in ("reflect", "replicate") and source.needs_grad:  # F.pad's own backward
            kept[source.storage] = source.grid.elements
    elif effect.saves == INPUT:
        kept.update((source.storage, source.grid.elements) for source in sources)
    elements = copied + sum(size for storage, size in kept.items() if storage not in saved)
    saved.update(kept)
    return FLOAT_BYTES * elements + effect.extra_bytes


def _padded_area(effect: Effect) -> int:
    height, width = (axis.pad_before + axis.input_size + axis.pad_after for axis in effect.axes)
    return height * width

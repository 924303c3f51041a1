"""Which tensors PyTorch keeps for the backward pass of each layer, and how many bytes they are.

Read off with saved_tensors_hooks (PyTorch 2.14). A convolution and a linear layer keep their input, or the
padded copy of it where F.pad has to run first; a batch norm keeps its input, a ReLU its result, a max pool
its input and int64 indices, an average pool its input. A mean, an addition, a concatenation, a view and
F.pad with zeros keep nothing. Parameters and buffers are not counted, nor the loss.

A tensor that several layers keep is counted once, for the first of them in the plan's order. Where no
gradient flows (from the image to the first layer with parameters) nothing is kept. Whether an operation
works in place does not change the sum: it can only overwrite what nobody keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stridelab.geometry.effect import INPUT, OUTPUT, Effect, MapSize
from stridelab.geometry.layer_plan import Layer
from stridelab.geometry.padding import PADDING_MODES, Pair

FLOAT_BYTES = 4
INDEX_BYTES = 8
NOISE_BYTES = 4
"""A dropout's noise, as on CPU; CUDA's fused dropout keeps a mask of one byte an element."""

ACTIVATIONS: dict[str, str] = {
    **dict.fromkeys(("relu", "sigmoid", "softmax", "tanh"), OUTPUT),
    **dict.fromkeys(("celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu"), INPUT),
    **dict.fromkeys(("mish", "prelu", "relu6", "selu", "silu", "softplus"), INPUT),
    **dict.fromkeys(("celu_", "elu_", "leaky_relu_", "selu_"), OUTPUT),
}
"""Which map an activation keeps; a trailing _ is PyTorch's in-place form, where that makes a difference."""

NORMS = ("batch", "group", "instance", "layer")
DEFAULT_FUNCTIONS = {"activation": "relu", "norm": "batch"}
"""Kind -> what it is where its plan does not say."""


def activation_saves(layer: Layer) -> str:
    if layer.function and layer.function not in ACTIVATIONS:
        raise ValueError(f"no activation is called {layer.function!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[layer.function or "relu"]


def norm_statistics(layer: Layer, grid: MapSize) -> Pair:
    """Bytes of mean and inverse deviation, kept for each image and once a batch."""
    per_group = 2 * FLOAT_BYTES
    match layer.function:
        case "" | "batch":
            return 0, per_group * grid.channels
        case "group":
            return per_group * layer.groups, 0
        case "instance":  # which repeats its weights for each image
            weights = 0 if layer.params == 0 else FLOAT_BYTES * grid.channels
            return per_group * grid.channels + weights, 0
        case "layer":  # over the channels of each position
            return per_group * grid.size[0] * grid.size[1], 0
    raise ValueError(f"no norm is called {layer.function!r}; choose one of {', '.join(NORMS)}")


@dataclass(frozen=True, slots=True)
class MapMemory:
    """A map, as memory."""

    grid: MapSize
    storage: str
    """The layer that its memory belongs to."""
    needs_grad: bool
    """Whether a gradient flows back into it."""


def pads_explicitly(pad: tuple[Pair, Pair], padding_mode: str) -> bool:
    """Whether F.pad has to make a padded copy first, because no built-in padding is like that."""
    (top, bottom), (left, right) = pad
    return top != bottom or left != right or (padding_mode != "zeros" and (top > 0 or left > 0))


def kept_bytes(layer: Layer, effect: Effect, sources: Sequence[MapMemory], saved: set[str]) -> int | None:
    """Bytes kept for each image at 32 bits, less the storages in `saved`, to which this layer's are added."""
    if effect.saves is None:
        return None
    kept: dict[str, int] = {}
    copied = 0
    if OUTPUT in effect.saves:
        kept[layer.name] = effect.grid.elements
    if INPUT in effect.saves and pads_explicitly(effect.pad, layer.padding_mode):
        (source,) = sources
        copied = source.grid.channels * _padded_area(effect)
        if PADDING_MODES[layer.padding_mode].keeps_input and source.needs_grad:  # F.pad keeps its own input
            kept[source.storage] = source.grid.elements
    elif INPUT in effect.saves:
        kept.update((source.storage, source.grid.elements) for source in sources)
    elements = copied + sum(size for storage, size in kept.items() if storage not in saved)
    saved.update(kept)
    return FLOAT_BYTES * elements + effect.image_bytes


def _padded_area(effect: Effect) -> int:
    height, width = (axis.pad_before + axis.input_size + axis.pad_after for axis in effect.axes)
    return height * width

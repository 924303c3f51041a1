"""The layer plan: a network as plain data, the one source of every figure and of the network itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, SupportsIndex

from stridelab.geometry.padding import AxisPadding as AxisPadding
from stridelab.geometry.padding import Pair as Pair
from stridelab.geometry.padding import parse_padding

IMAGE = "image"
"""The name by which layers refer to the network's input."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One node of a layer plan; fields that its kind has no use for are left alone."""

    name: str
    """Empty: its plan numbers it, conv1, conv2, ..."""
    kind: str
    """A key of `KINDS`."""
    inputs: tuple[str, ...] = ()
    """The layers (or `IMAGE`) whose maps it reads; empty: its plan fills in the layer before it."""
    out_channels: int | None = None
    """None: as many as come in."""
    kernel_size: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[AxisPadding, AxisPadding] = (0, 0)
    padding_mode: str = "zeros"
    groups: int = 1
    bias: bool = False
    ceil_mode: bool = False
    output_size: Pair | None = None
    """What an adaptive pool, a slice or a layer that enlarges its map is asked for, and the map that an opaque layer is
    known to make.
    """
    function: str = ""
    """Which of `ACTIVATIONS` ("": relu) or `NORMS` ("": batch), which differ in what they keep; how to interpolate."""
    params: int | None = None
    """Its parameters, where the rule of its kind would be wrong (a norm without weights, an opaque layer)."""
    macs: int | None = None
    """Its cost for one image, as above: a trace tells it of what only it has seen; None: by the rule."""
    uncounted: str = ""
    """The operations, by name, for which there is no formula, so that its cost is unknown."""
    activation_bytes: int | None = None
    """What autograd was seen to keep first for this layer, for each image; None: by the rule."""
    batch_bytes: int | None = None
    """The same, once whatever the batch."""
    remedy: str = ""
    """What a person can change where it does not fit its maps; an error ends with it."""


def layer(
    kind: str,
    name: str = "",
    *,
    kernel_size: int | Sequence[int] = 1,
    stride: int | Sequence[int] | None = None,
    dilation: int | Sequence[int] = 1,
    padding: object = 0,
    **fields: Any,
) -> Layer:
    """A Layer from what a person writes: ints for both axes, any padding policy, a pool's stride left out.

    >>> layer("max_pool", kernel_size=2).stride
    (2, 2)
    """
    default_stride = kernel_size if kind.endswith("_pool") else 1
    return Layer(
        name,
        kind,
        kernel_size=parse_pair(kernel_size, "kernel_size"),
        stride=parse_pair(default_stride if stride is None else stride, "stride"),
        dilation=parse_pair(dilation, "dilation"),
        padding=parse_padding(padding),
        **fields,
    )


def parse_pair(value: object, key: str) -> Pair:
    """(height, width) of an int or of two, each 1 or more; `key` is what errors call it."""
    sizes = tuple(value) if isinstance(value, (list, tuple)) else (value, value)
    sizes = tuple(int(size) if isinstance(size, SupportsIndex) else size for size in sizes)  # NumPy's integers too
    if len(sizes) != 2 or not all(type(size) is int and size >= 1 for size in sizes) or isinstance(value, bool):
        raise ValueError(f"{key}={value!r} is not allowed; it must be an integer of 1 or more, or [height, width]")
    return sizes[0], sizes[1]


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """A network: an input of `input_channels` maps of `input_size`, and layers in topological order."""

    input_channels: int
    input_size: Pair
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        """Fill in names and inputs that were left empty; refuse a name used twice, or read before it is
        made.
        """
        parse_pair(self.input_size, "input_size")
        parse_pair(self.input_channels, "input_channels")
        counts: Counter[str] = Counter()
        known = {IMAGE}
        previous, resolved = IMAGE, []
        for given in self.layers:
            counts[given.kind] += 1
            name = given.name or f"{given.kind}{counts[given.kind]}"
            inputs = given.inputs or (previous,)
            if name in known:
                raise ValueError(f"layer name {name!r} is used twice; every layer needs a name of its own")
            for source in inputs:
                if source not in known:
                    raise ValueError(f"layer {name!r} reads {source!r}, but no layer before it is called that")
            known.add(name)
            previous = name
            filled = given.name and given.inputs
            resolved.append(given if filled else replace(given, name=name, inputs=inputs))
        object.__setattr__(self, "layers", tuple(resolved))


def parse_plan(entry: Mapping[str, Any]) -> LayerPlan:
    """A plan from the JSON that `dataclasses.asdict` made of it; TypeError for other fields."""
    layers = tuple(Layer(**{name: tuples(value) for name, value in one.items()}) for one in entry["layers"])
    return LayerPlan(entry["input_channels"], tuples(entry["input_size"]), layers)


def tuples(value: Any) -> Any:
    """JSON's lists as the tuples that they were."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value

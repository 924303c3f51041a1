"""The layer plan: a network as plain data, the one source of every figure and of the network itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

Pair = tuple[int, int]
"""(height, width)."""

AxisPadding = int | tuple[int, int] | str
"""Padding of one axis: symmetric, (before, after), or the name of a policy in `PADDINGS`."""

IMAGE = "image"
"""The name by which layers refer to the network's input."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One node of a layer plan; fields that its kind has no use for are left alone."""

    name: str
    kind: str
    """A key of `KINDS`."""
    inputs: tuple[str, ...] = ()
    """The layers (or `IMAGE`) whose maps it reads; empty means the layer before it."""
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
    """What an adaptive pool is asked for, and the map that an opaque layer is known to make."""
    function: str = ""
    """Which activation (`ACTIVATIONS`, "" is relu) or norm (`NORMS`, "" is batch): they save different tensors."""
    params: int | None = None
    """Its parameters, where they are known better than by the rule of its kind (a norm without weights, a PReLU)."""


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """A network: an input of `input_channels` maps of `input_size`, and layers in topological order."""

    input_channels: int
    input_size: Pair
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        """Fill in the inputs left empty; refuse names that are used twice or that no earlier layer has."""
        known = {IMAGE: None}
        resolved = []
        for layer in self.layers:
            inputs = layer.inputs or (next(reversed(known)),)
            for source in inputs:
                if source not in known:
                    raise ValueError(
                        f"layer {layer.name!r} reads {source!r}, which is no earlier layer; choose one of {', '.join(known)}"
                    )
            if layer.name in known:
                raise ValueError(f"layer name {layer.name!r} is used twice; every layer needs a name of its own")
            known[layer.name] = None
            resolved.append(layer if layer.inputs else replace(layer, inputs=inputs))
        object.__setattr__(self, "layers", tuple(resolved))

"""From the last feature map to what the network is asked for: the end of every family."""

from __future__ import annotations

from typing import Protocol

from stridelab.geometry import Layer

HEADS = ("gap", "flatten")


class Headed(Protocol):
    @property
    def head(self) -> str: ...


def head(config: Headed, *, source: str, num_classes: int, name: str = "classifier", norm: str = "") -> list[Layer]:
    """`name`: of the layer that classifies; `norm`: of a layer norm ahead of it, if there is to be one."""
    collapse = Layer(
        name="pool" if config.head == "gap" else "flatten",
        kind="global_avg_pool" if config.head == "gap" else "flatten",
        inputs=(source,),
    )
    normalise = [Layer(norm, "norm", (collapse.name,), function="layer")] if norm else []
    read = (norm or collapse.name,)
    return [collapse, *normalise, Layer(name, "linear", read, out_channels=num_classes, bias=True)]

"""From the last feature map to what the network is asked for: the end of every family."""

from __future__ import annotations

from typing import Protocol

from stridelab.geometry import Layer

HEADS = ("gap", "flatten")


class Headed(Protocol):
    @property
    def head(self) -> str: ...


def head(config: Headed, *, source: str, num_classes: int) -> list[Layer]:
    collapse = Layer(
        name="pool" if config.head == "gap" else "flatten",
        kind="global_avg_pool" if config.head == "gap" else "flatten",
        inputs=(source,),
    )
    classify = Layer(name="classifier", kind="linear", inputs=(collapse.name,), out_channels=num_classes, bias=True)
    return [collapse, classify]

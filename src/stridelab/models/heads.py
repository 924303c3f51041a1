"""From the last feature map to what the network is asked for: the end of every family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from stridelab.geometry import Layer, LayerPlan, measure, totals

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


def classifier(plan: LayerPlan, num_classes: int) -> LayerPlan:
    """As its family made it: (batch, classes)."""
    return plan


def locator(plan: LayerPlan, num_classes: int) -> LayerPlan:
    """A 1x1 convolution to scores and presence, and their soft-argmax: (batch, 4). Its parameters do not depend on
    stride."""
    trunk, units = last_map(plan)
    return replace(
        plan,
        layers=(
            *trunk,
            Layer("score", "readout", (trunk[-1].name,), out_channels=2, bias=True),
            Layer("place", "soft_argmax", ("score",), **units),
        ),
    )


def segmenter(plan: LayerPlan, num_classes: int) -> LayerPlan:
    """A 1x1 convolution to a score a class, up-sampled: (batch, classes, height, width) of the image."""
    trunk, units = last_map(plan)
    return replace(
        plan,
        layers=(
            *trunk,
            Layer("score", "readout", (trunk[-1].name,), out_channels=num_classes, bias=True),
            Layer("upsample", "resample", ("score",), output_size=plan.input_size, **units),
        ),
    )


def last_map(plan: LayerPlan) -> tuple[Sequence[Layer], dict[str, Any]]:
    """The layers up to the last map, and where its units lie on the image. ValueError where they lie on no grid."""
    measured = measure(plan)
    last = totals(measured).last_map
    if last is None:
        raise ValueError("the network has no last map to read: it makes one vector of the whole image at once")
    if (
        last.effective_stride is None
        or last.spans is not None
        or not all(type(s) is int for s in last.effective_stride)
    ):
        raise ValueError(
            f"the units of its last map, {last.name!r}, lie on no grid of whole pixels, so that places on the image "
            "cannot be told from them"
        )
    units = {"kernel_size": last.receptive_field, "stride": last.effective_stride, "padding": last.effective_padding}
    return plan.layers[: measured.index(last) + 1], units

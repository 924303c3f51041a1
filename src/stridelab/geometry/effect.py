"""What a layer does to a map, as far as geometry and cost are concerned."""

from __future__ import annotations

from dataclasses import dataclass

from stridelab.geometry.axis import AxisGeometry
from stridelab.geometry.padding import Pair

Axes = tuple[AxisGeometry, AxisGeometry]
INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True, slots=True)
class MapSize:
    """The size of a map."""

    channels: int
    size: Pair

    @property
    def elements(self) -> int:
        return self.channels * self.size[0] * self.size[1]


@dataclass(frozen=True, slots=True)
class Effect:
    """What a layer makes of its inputs; None stands for what cannot be known."""

    channels: int
    axes: Axes
    """The windows along height and width."""
    widens: bool = False
    """Its windows are there to add context, and can fail to."""
    whole: bool = False
    """One unit that reads the whole map."""
    params: int | None = 0
    macs: int | None = 0
    saves: tuple[str, ...] | None = ()
    """Which maps autograd keeps, INPUT or OUTPUT or both."""
    image_bytes: int = 0
    """What else autograd keeps for each image, that no other layer shares: indices, noise, statistics."""
    batch_bytes: int = 0
    """What autograd keeps once, whatever the batch."""
    aliases: bool = False
    """The output is a view of the input, without memory of its own."""

    @property
    def grid(self) -> MapSize:
        return MapSize(self.channels, (self.axes[0].output_size, self.axes[1].output_size))

    @property
    def pad(self) -> tuple[Pair, Pair]:
        """((top, bottom), (left, right))."""
        height, width = self.axes
        return (height.pad_before, height.pad_after), (width.pad_before, width.pad_after)

"""LayerGeometry: one layer, measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import floor
from typing import Any

from stridelab.geometry.axis import AxisGeometry, Step, taps, whole
from stridelab.geometry.effect import Axes
from stridelab.geometry.layer_plan import tuples
from stridelab.geometry.padding import AxisPadding, Pair
from stridelab.geometry.receptive_field import AxisField, through

Fields = tuple[AxisField | None, AxisField | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGeometry:
    """One layer, measured. Pairs are (height, width).

    None is what cannot be known: the figures of the field behind an opaque layer, behind an adaptive pool
    whose bins are not alike, and behind branches of unequal effective stride.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    in_channels: int
    out_channels: int
    kernel_size: Pair
    """Of a global pool, the map that it reads; of an adaptive one, its widest bin."""
    stride: tuple[Step, Step]
    """A fraction where it enlarges the map."""
    dilation: Pair
    padding: tuple[AxisPadding, AxisPadding]
    padding_mode: str
    input_size: Pair
    output_size: Pair
    pad: tuple[Pair, Pair]
    """((top, bottom), (left, right)), in rows and columns of its input, as are the next five."""
    unread_padding: Pair
    unread_pixels: Pair
    skipped_pixels: Pair
    hole_pixels: Pair
    uneven: tuple[bool, bool]
    """Windows reach past the input on one side only."""

    receptive_field: Pair | None
    """In pixels of the image, as are the next five; the largest, where a layer before enlarged its map and the fields
    of its units differ.
    """
    effective_stride: tuple[Step, Step] | None
    """From unit to unit, on average; a fraction where the units of an enlarged map share pixels."""
    effective_padding: Pair | None
    """Top and left: how far before the image the first unit's field starts."""
    center: tuple[float, float] | None
    """Of the first unit's field; the image's first pixel is 0.0."""
    region: tuple[Pair, Pair] | None
    """((first row, last row), (first column, last column)) of the first unit's field; may lie outside the
    image.
    """
    spans: tuple[tuple[Pair, ...], tuple[Pair, ...]] | None = None
    """Where the fields of neighbours are not alike: (first, last) row, and column, of as many units as it takes until
    they repeat further on.
    """
    input_share: float | None
    """Share of the image that this map reads: rows that some unit reads, times columns."""
    padding_share: float | None
    """Share of this map's units whose field reaches past the image's edge, into padding."""
    unproductive: bool | None
    """A window whose input's field already exceeds the image: it adds no context (Richter et al. 2021)."""
    misaligned: bool
    """It joins branches whose fields differ in effective stride or centre (Araujo et al. 2019)."""
    gated: bool
    """Values that depend on the whole image are broadcast into this map; its figures are of the local
    path.
    """
    whole: bool
    """Behind the last map: one unit that reads a whole map (a global pool, a flatten and what follows), or what a
    network makes of its last map for every pixel."""

    params: int | None
    macs: int | None
    """Multiply-accumulates of convolution and linear layers for one image: no bias, padding taps included."""
    output_elements: int
    activation_bytes: int | None
    """What autograd keeps for one image at 32 bits, less what it keeps for an earlier layer anyway."""
    batch_bytes: int
    """What autograd keeps besides, once, whatever the batch: the batch norm's statistics."""
    function: str = ""
    """Which activation or norm, or how it interpolates."""
    saves: tuple[str, ...] | None = None
    """Which maps autograd keeps for it, by the rule of its kind: input, output or both."""
    other_bytes: int = 0
    """Of `activation_bytes`, what is not numbers of a map: indices, noise, statistics."""
    groups: int = 1
    """Of a convolution's channels."""

    def region_of(self, unit: Pair) -> tuple[Pair, Pair] | None:
        """As `region`, for the unit at (row, column)."""
        if self.region is None or self.effective_stride is None:
            return None
        rows, columns = (
            _span(spans, step, at)
            for spans, step, at in zip(
                self.spans or [[region] for region in self.region], self.effective_stride, unit, strict=True
            )
        )
        return rows, columns

    def window(self, axis: int, units: Pair) -> Pair:
        """(first, last) row (axis 0) or column (axis 1) of its input under the windows of units first to last."""
        first, last = (floor(unit * self.stride[axis]) - self.pad[axis][0] for unit in units)
        return first, last + self.dilation[axis] * (self.kernel_size[axis] - 1)

    def unread(self, axis: int) -> frozenset[int]:
        """Rows or columns of its padded input under no tap; those of the padding before it are negative."""
        before, after = self.pad[axis]
        read = taps(
            self.output_size[axis],
            kernel_size=self.kernel_size[axis],
            stride=max(1, floor(self.stride[axis])),
            dilation=self.dilation[axis],
        )
        return frozenset(range(-before, self.input_size[axis] + after)) - {column - before for column in read}

    @property
    def exact_pad(self) -> tuple[Pair, Pair]:
        """`pad`, but what comes after ends with the last window: negative where it reads less than the map."""
        ends = (self.window(axis, (0, self.output_size[axis] - 1))[1] for axis in (0, 1))
        bottom, right = (end + 1 - size for end, size in zip(ends, self.input_size, strict=True))
        return (self.pad[0][0], bottom), (self.pad[1][0], right)


def _span(spans: Sequence[Pair], step: Step, unit: int) -> Pair:
    period, phase = divmod(unit, len(spans))
    moved = int(period * len(spans) * step)
    return spans[phase][0] + moved, spans[phase][1] + moved


def parse_layers(entries: Iterable[Mapping[str, Any]]) -> tuple[LayerGeometry, ...]:
    """Measured layers from the JSON that `dataclasses.asdict` and `spell_fraction` made of them; TypeError for other
    fields."""
    return tuple(LayerGeometry(**{name: _parse(name, value) for name, value in entry.items()}) for entry in entries)


def _parse(name: str, value: Any) -> Any:
    if value is not None and name in ("stride", "effective_stride"):
        return tuple(whole(Fraction(step)) for step in value)
    return tuples(value)


def spell_fraction(value: object) -> str:
    """json's `default`, for the strides of enlarged maps: exactly, as `1/2`."""
    if isinstance(value, Fraction):
        return str(value)
    raise TypeError(f"a {type(value).__name__} is no JSON")


CACHED_SIZE = 2048
"""Larger maps are measured anew each time: what is kept for one grows with the square of its size."""

FIELD_FIGURES = (
    "receptive_field",
    "effective_stride",
    "effective_padding",
    "center",
    "region",
    "spans",
    "input_share",
    "padding_share",
)


def spatial_figures(before: Fields, axes: Axes, padding_mode: str) -> tuple[Fields, dict[str, Any]]:
    """The fields behind a layer, and what LayerGeometry says of its windows and fields."""
    if max(axes[0].input_size, axes[1].input_size) > CACHED_SIZE:
        return _measured(before, axes, padding_mode)
    return _remembered(before, axes, padding_mode)


@lru_cache(maxsize=256)
def _remembered(before: Fields, axes: Axes, padding_mode: str) -> tuple[Fields, dict[str, Any]]:
    return _measured(before, axes, padding_mode)


def _measured(before: Fields, axes: Axes, padding_mode: str) -> tuple[Fields, dict[str, Any]]:
    height, width = (
        None if field is None else through(field, axis, padding_mode) for field, axis in zip(before, axes, strict=True)
    )
    return (height, width), _window_figures(*axes) | _field_figures(height, width)


def _window_figures(height: AxisGeometry, width: AxisGeometry) -> dict[str, Any]:
    return {
        "kernel_size": (height.kernel_size, width.kernel_size),
        "stride": (height.step, width.step),
        "dilation": (height.dilation, width.dilation),
        "input_size": (height.input_size, width.input_size),
        "output_size": (height.output_size, width.output_size),
        "pad": ((height.pad_before, height.pad_after), (width.pad_before, width.pad_after)),
        "unread_padding": (height.unread_padding, width.unread_padding),
        "unread_pixels": (height.unread_pixels, width.unread_pixels),
        "skipped_pixels": (height.skipped_pixels, width.skipped_pixels),
        "hole_pixels": (height.hole_pixels, width.hole_pixels),
        "uneven": (height.uneven, width.uneven),
    }


def _field_figures(height: AxisField | None, width: AxisField | None) -> dict[str, Any]:
    if height is None or width is None:
        return dict.fromkeys(FIELD_FIGURES)
    clear = height.clear_units * width.clear_units
    return {
        "receptive_field": (height.size, width.size),
        "effective_stride": (height.stride, width.stride),
        "effective_padding": (-height.spans[0][0], -width.spans[0][0]),
        "center": (sum(height.spans[0]) / 2, sum(width.spans[0]) / 2),
        "region": (height.spans[0], width.spans[0]),
        "spans": None if len(height.spans) == len(width.spans) == 1 else (height.spans, width.spans),
        "input_share": height.seen * width.seen / (height.image_size * width.image_size),
        "padding_share": 1 - clear / (len(height.reads) * len(width.reads)),
    }

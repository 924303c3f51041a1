"""One axis of one layer: where the windows lie, how many there are, and what they never read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import Any

from stridelab.geometry.padding import AxisPadding, explicit_pads


@dataclass(frozen=True, slots=True)
class AxisGeometry:
    """The windows of one layer along one axis; all sizes in columns of the layer's input.

    Every real column is either read, or unread (behind the last window), skipped (between windows) or a hole
    (inside a window). These count positions: where a pad repeats a real column (circular, reflect,
    replicate), that column may be read there after all.
    """

    input_size: int
    kernel_size: int
    stride: int
    dilation: int
    pad_before: int
    pad_after: int
    output_size: int
    unread_padding: int
    """Padding columns behind the last window."""
    unread_pixels: int
    """Real columns behind the last window: dropped silently by the floor in the size formula."""
    skipped_pixels: int
    """Real columns between two windows, where the stride exceeds the effective kernel."""
    hole_pixels: int
    """Real columns inside windows that no tap reads, because of dilation."""
    uneven: bool
    """Windows reach past the input on one side only."""
    repeated_taps: tuple[tuple[int, ...], ...] = ()
    """Of a layer that enlarges its map: the columns that each of the first units reads; as many units further, the
    same, `stride` columns on. Kernel and pads then say nothing of single units.
    """
    regular: bool = True
    """False where windows are not all alike, or unknown: kernel and stride then say little."""

    def __hash__(self) -> int:  # a cache key, so cheap
        return hash((self.input_size, self.output_size, self.kernel_size, self.stride, self.pad_before))

    @property
    def span(self) -> int:
        """The effective kernel: how many columns a window stretches over."""
        return self.dilation * (self.kernel_size - 1) + 1

    @property
    def taps(self) -> tuple[Sequence[int], ...]:
        """The columns that each unit reads, until they repeat `stride` columns further; negative: in the padding."""
        return self.repeated_taps or (range(-self.pad_before, self.span - self.pad_before, self.dilation),)

    @property
    def step(self) -> Step:
        """Columns from unit to unit, on average."""
        return self.stride if len(self.taps) == 1 else whole(Fraction(self.stride, len(self.taps)))


Step = int | Fraction
"""Whole where it can be: a fraction where a map has more units than the columns that they step over."""


def whole(step: Fraction) -> Step:
    return step.numerator if step.denominator == 1 else step


def conv_axis(
    input_size: int, *, kernel_size: int, stride: int = 1, dilation: int = 1, padding: AxisPadding = 0
) -> AxisGeometry:
    """The windows of a convolution along one axis, so that a pair of pads is (before, after).

    There are floor((input_size + before + after - span) / stride) + 1 (Dumoulin & Visin 2016).

    >>> conv_axis(28, kernel_size=3, stride=2, padding=1).output_size
    14

    Raises ValueError when nothing is left, and for sizes below 1 or pads below 0.
    """
    return _axis(input_size, kernel_size, stride, dilation, _hashable(padding), False)


def pool_axis(
    input_size: int,
    *,
    kernel_size: int,
    stride: int | None = None,
    dilation: int = 1,
    padding: AxisPadding = 0,
    ceil_mode: bool = False,
) -> AxisGeometry:
    """The windows of a pooling; the stride is the kernel size unless given.

    `ceil_mode` follows PyTorch: the division rounds up, so that the last window may overhang, then a last
    window that would start behind the input is dropped. Pads may be half the kernel at most.

    >>> pool_axis(5, kernel_size=2, ceil_mode=True).output_size
    3
    >>> pool_axis(6, kernel_size=2, stride=3, ceil_mode=True).output_size
    2
    """
    step = kernel_size if stride is None else stride
    axis = _axis(input_size, kernel_size, step, dilation, _hashable(padding), ceil_mode)
    if max(axis.pad_before, axis.pad_after) > kernel_size // 2:
        raise ValueError(
            f"padding {axis.pad_before} + {axis.pad_after} is too much for a window of {kernel_size}; "
            "each side of a pooling may have half the kernel at most"
        )
    return axis


def whole_axis(input_size: int) -> AxisGeometry:
    """One window over everything, as of a global pool."""
    return _axis(input_size, input_size, 1, 1, 0, False)


def slice_axis(input_size: int, *, start: int, step: int, count: int) -> AxisGeometry:
    """Every step-th column from `start` on, as a slice takes them: its pads are negative."""
    end = start + (count - 1) * step + 1
    return _bare_axis(
        input_size,
        count,
        stride=step,
        pad_before=-start,
        unread_pixels=start + input_size - end,
        skipped_pixels=(count - 1) * (step - 1),
    )


def transposed_axis(
    input_size: int, output_size: int, *, kernel_size: int, stride: int, dilation: int, padding: int
) -> AxisGeometry:
    """A transposed convolution: tap t of column i goes to unit i * stride - padding + t * dilation.

    ValueError where the stride leaves units that no column goes to.
    """
    taps = []
    for unit in range(stride):
        places = (unit + padding - tap * dilation for tap in range(kernel_size))
        taps.append(tuple(sorted(place // stride for place in places if place % stride == 0)))
    if not all(taps):
        raise ValueError(f"kernel_size {kernel_size} leaves gaps between steps of {stride}, where no pixel is read")
    return _bare_axis(input_size, output_size, kernel_size=kernel_size, dilation=dilation, repeated_taps=tuple(taps))


def interpolated_axis(input_size: int, output_size: int, *, mode: str) -> AxisGeometry:
    """Interpolation as PyTorch's: where unit j lies, and which columns it mixes there.

    nearest: floor(j * n / m). nearest-exact: floor((j + 1/2) * n / m). bilinear: the columns on both sides of
    (j + 1/2) * n / m - 1/2, or, where corners are aligned, of j * (n - 1) / (m - 1). A column of weight zero is not
    read.

    >>> interpolated_axis(4, 8, mode="bilinear").taps
    ((-1, 0), (0, 1))
    """
    ratio = Fraction(input_size, output_size)
    if mode == "aligned":
        ratio = Fraction(input_size - 1, output_size - 1) if output_size > 1 else Fraction(1)
    if not ratio:
        return irregular_axis(input_size, output_size)
    offset = {"bilinear": (ratio - 1) / 2, "nearest-exact": ratio / 2}.get(mode, Fraction(0))
    places = [unit * ratio + offset for unit in range(ratio.denominator)]
    taps = [(floor(at),) if mode.startswith("nearest") else tuple(sorted({floor(at), ceil(at)})) for at in places]
    return _bare_axis(
        input_size,
        output_size,
        kernel_size=max(map(len, taps)),
        stride=ratio.numerator,
        repeated_taps=tuple(taps),
    )


def irregular_axis(input_size: int, output_size: int, *, kernel_size: int = 1) -> AxisGeometry:
    """An axis whose windows have no common size and step."""
    return _bare_axis(input_size, output_size, kernel_size=kernel_size, regular=False)


def _bare_axis(input_size: int, output_size: int, **fields: Any) -> AxisGeometry:
    """One window of a single column a unit, but for `fields`."""
    plain = dict.fromkeys(
        ("pad_before", "pad_after", "unread_padding", "unread_pixels", "skipped_pixels", "hole_pixels"), 0
    ) | dict.fromkeys(("kernel_size", "stride", "dilation"), 1)
    return AxisGeometry(**{"uneven": False} | plain | fields, input_size=input_size, output_size=output_size)


def _hashable(padding: AxisPadding) -> AxisPadding:
    return tuple(padding) if isinstance(padding, list) else padding


@lru_cache(maxsize=1 << 14, typed=True)
def _axis(
    input_size: int, kernel_size: int, stride: int, dilation: int, padding: AxisPadding, ceil_mode: bool
) -> AxisGeometry:
    sizes = {"input_size": input_size, "kernel_size": kernel_size, "stride": stride, "dilation": dilation}
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}={value!r} is not allowed; it must be an integer of 1 or more")
    span = dilation * (kernel_size - 1) + 1
    before, after = explicit_pads(padding, input_size=input_size, span=span, stride=stride)
    padded = before + input_size + after
    count = (padded - span + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= input_size + before:
        count -= 1
    if count < 1:
        raise ValueError(
            f"a window of {span} (kernel_size {kernel_size}, dilation {dilation}) does not fit into "
            f"{before} + {input_size} + {after} columns (padding, input, padding); nothing is left"
        )
    end = (count - 1) * stride + span
    trailing = max(0, padded - end)
    unread = min(max(0, trailing - after), input_size)
    real = range(before, min(end, before + input_size))
    skipped, holes = _lost(real, count=count, kernel_size=kernel_size, stride=stride, dilation=dilation)
    return AxisGeometry(
        input_size=input_size,
        kernel_size=kernel_size,
        stride=stride,
        dilation=dilation,
        pad_before=before,
        pad_after=after,
        output_size=count,
        unread_padding=trailing - unread,
        unread_pixels=unread,
        skipped_pixels=skipped,
        hole_pixels=holes,
        uneven=(before > 0) != (end > before + input_size),
    )


def _lost(real: range, *, count: int, kernel_size: int, stride: int, dilation: int) -> tuple[int, int]:
    """How many columns of `real` lie between windows, and how many inside windows but under no tap."""
    span = dilation * (kernel_size - 1) + 1
    if dilation == 1 and stride <= span:
        return 0, 0
    read = taps(count, kernel_size=kernel_size, stride=stride, dilation=dilation)
    lost = [column for column in real if column not in read]
    skipped = sum(column % stride >= span for column in lost)
    return skipped, len(lost) - skipped


def taps(count: int, *, kernel_size: int, stride: int, dilation: int) -> set[int]:
    """The columns that `count` windows read, counted from the first tap of the first."""
    return {unit * stride + tap * dilation for unit in range(count) for tap in range(kernel_size)}

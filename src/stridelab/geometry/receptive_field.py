"""What the units of a map see of the image, along one axis.

Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019: unit i
of a map sees the columns [first + i * stride, last + i * stride]. Here `stride` is the effective stride
(the jump), `first` is minus the effective padding, and last - first + 1 is the receptive field. Through one
more layer with stride s, padding p before, and effective kernel k = dilation * (kernel_size - 1) + 1:

    stride' = stride * s        first' = first - p * stride        last' = last + (k - 1 - p) * stride

Behind a layer that enlarges its map, the fields of several units are remembered, those of a period, and the next
period's are theirs, moved on. Effective strides may then be fractions, and the receptive field is the largest.

That is where a unit may look. `reads` says where it does: a bit for each column of the image, for each unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, reduce
from itertools import islice
from math import gcd, lcm
from operator import or_

from stridelab.geometry.axis import AxisGeometry, Step, whole
from stridelab.geometry.padding import PADDING_MODES


@dataclass(frozen=True, slots=True, eq=False)
class AxisField:
    """The fields of all units of a map (compared by identity, so that they are cheap cache keys)."""

    image_size: int
    spans: tuple[tuple[int, int], ...]
    """(first, last) column of the fields of a period's units, negative where that lies in padding."""
    shift: int
    """Columns from one period to the next."""
    reads: tuple[int, ...]
    """For each unit, the columns of the image that it reads, as bits."""

    @property
    def size(self) -> int:
        """The receptive field."""
        return max(last - first + 1 for first, last in self.spans)

    @property
    def stride(self) -> Step:
        return self.shift if len(self.spans) == 1 else whole(Fraction(self.shift, len(self.spans)))

    def span(self, unit: int) -> tuple[int, int]:
        """(first, last) column of a unit's field; of a unit outside the map too, as if there were one."""
        period, phase = divmod(unit, len(self.spans))
        first, last = self.spans[phase]
        return first + period * self.shift, last + period * self.shift

    def over(self, period: int) -> tuple[tuple[int, int], ...]:
        return tuple(map(self.span, range(period)))

    @property
    def seen(self) -> int:
        """How many columns of the image at least one unit reads."""
        return _union(self.reads).bit_count()

    @property
    def clear_units(self) -> int:
        """How many units have a field that stays inside the image."""
        spans = map(self.span, range(len(self.reads)))
        return sum(first >= 0 and last < self.image_size for first, last in spans)


@lru_cache(maxsize=4)
def image_field(size: int) -> AxisField:
    return AxisField(size, ((0, 0),), 1, tuple(1 << column for column in range(size)))


def through(field: AxisField, axis: AxisGeometry, padding_mode: str = "zeros") -> AxisField | None:
    """The fields behind one more layer; None where its windows are not all alike."""
    if not axis.regular:
        return None
    if axis.kernel_size == axis.step == 1 and axis.output_size == axis.input_size:
        return field
    common = gcd(axis.stride, len(field.spans))
    starts = range(0, axis.stride * len(field.spans) // common, axis.stride)
    windows = [[field.span(start + tap) for tap in taps] for start in starts for taps in axis.taps]
    return AxisField(
        image_size=field.image_size,
        spans=tuple((min(spans)[0], max(last for _, last in spans)) for spans in windows),
        shift=field.shift * axis.stride // common,
        reads=_reads(field.reads, axis, PADDING_MODES[padding_mode].repeats),
    )


def _reads(below: tuple[int, ...], axis: AxisGeometry, repeated: Callable[[int, int], int | None]) -> tuple[int, ...]:
    size, taps = len(below), axis.taps
    periods = range(-(-axis.output_size // len(taps)))
    start = min(map(min, taps))
    end = (len(periods) - 1) * axis.stride + max(map(max, taps)) + 1
    sources = [column if 0 <= column < size else repeated(column, size) for column in range(start, end)]
    padded = [0 if column is None else below[column] for column in sources]
    places = [slice(one[0] - start, one[-1] + 1 - start, one[1] - one[0] if len(one) > 1 else 1) for one in taps]
    units = (
        _union(padded[place.start + at : place.stop + at : place.step])
        for at in range(0, len(periods) * axis.stride, axis.stride)
        for place in places
    )
    return tuple(islice(units, axis.output_size))


def merge(fields: Sequence[AxisField | None]) -> tuple[AxisField | None, bool]:
    """The field of units that are fed by several branches, and whether the branches are aligned.

    Branches are aligned when their effective strides and centres (of a period: the mean) are equal, and the field is
    then the largest one's (Araujo et al. 2019). Where only the centres differ, it is the hull of the branches'.
    Where the strides of more than one unit differ, no figure holds for them all: None.
    """
    known = [field for field in fields if field is not None]
    first = known[0] if known else None
    if first is None or len(known) < len(fields):
        return None, True
    if all(field is first for field in known):
        return first, True
    if len(first.reads) > 1 and any(field.stride != first.stride for field in known):
        return None, False
    period = lcm(*(len(field.spans) for field in known))
    longest = max(known, key=lambda field: field.stride)
    branches = [field.over(period) for field in known]
    hull = AxisField(
        image_size=first.image_size,
        spans=tuple(
            (min(first for first, _ in unit), max(last for _, last in unit)) for unit in zip(*branches, strict=True)
        ),
        shift=longest.shift * period // len(longest.spans),
        reads=tuple(_union(unit) for unit in zip(*(field.reads for field in known), strict=True)),
    )
    return hull, len({sum(map(sum, spans)) for spans in branches}) == 1


def _union(columns: Iterable[int]) -> int:
    return reduce(or_, columns, 0)

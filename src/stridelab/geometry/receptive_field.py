"""What the units of a map see of the image, along one axis.

Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019: unit i
of a map sees the columns [first + i * stride, last + i * stride]. Here `stride` is the effective stride
(the jump), `first` is minus the effective padding, and last - first + 1 is the receptive field. Through one
more layer with stride s, padding p before, and effective kernel k = dilation * (kernel_size - 1) + 1:

    stride' = stride * s        first' = first - p * stride        last' = last + (k - 1 - p) * stride

That is where a unit may look. `reads` says where it does: a bit for each column of the image, for each unit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_

from stridelab.geometry.axis import AxisGeometry
from stridelab.geometry.padding import PADDING_MODES


@dataclass(frozen=True, slots=True, eq=False)
class AxisField:
    """The fields of all units of a map (compared by identity, so that they are cheap cache keys)."""

    image_size: int
    first: int
    """First column of unit 0's field, negative where that lies in padding."""
    last: int
    stride: int
    reads: tuple[int, ...]
    """For each unit, the columns of the image that it reads, as bits."""

    @property
    def size(self) -> int:
        """The receptive field."""
        return self.last - self.first + 1

    @property
    def seen(self) -> int:
        """How many columns of the image at least one unit reads."""
        return _union(self.reads).bit_count()

    @property
    def clear_units(self) -> int:
        """How many units have a field that stays inside the image."""
        first_clear = max(0, -(self.first // self.stride))
        last_clear = min(len(self.reads) - 1, (self.image_size - 1 - self.last) // self.stride)
        return max(0, last_clear - first_clear + 1)


@lru_cache(maxsize=4)
def image_field(size: int) -> AxisField:
    return AxisField(size, 0, 0, 1, tuple(1 << column for column in range(size)))


def through(field: AxisField, axis: AxisGeometry, padding_mode: str = "zeros") -> AxisField | None:
    """The fields behind one more layer; None where its windows are not all alike."""
    if not axis.regular:
        return None
    if axis.kernel_size == axis.stride == 1 and axis.output_size == axis.input_size:
        return field
    return AxisField(
        image_size=field.image_size,
        first=field.first - axis.pad_before * field.stride,
        last=field.last + (axis.span - 1 - axis.pad_before) * field.stride,
        stride=field.stride * axis.stride,
        reads=_reads(field.reads, axis, PADDING_MODES[padding_mode].repeats),
    )


def _reads(below: tuple[int, ...], axis: AxisGeometry, repeated: Callable[[int, int], int | None]) -> tuple[int, ...]:
    size, before = len(below), axis.pad_before
    end = (axis.output_size - 1) * axis.stride + axis.span - before
    sources = [column if 0 <= column < size else repeated(column, size) for column in range(-before, end)]
    padded = [0 if column is None else below[column] for column in sources]
    starts = range(0, axis.output_size * axis.stride, axis.stride)
    return tuple(_union(padded[start : start + axis.span : axis.dilation]) for start in starts)


def merge(fields: Sequence[AxisField | None]) -> tuple[AxisField | None, bool]:
    """The field of units that are fed by several branches, and whether the branches are aligned.

    Branches are aligned when their effective strides and centres are equal, and the field is then the
    largest one's (Araujo et al. 2019). Where only the centres differ, it is the hull of the branches'.
    Where the strides of more than one unit differ, no figure holds for them all: None.
    """
    known = [field for field in fields if field is not None]
    first = known[0] if known else None
    if first is None or len(known) < len(fields):
        return None, True
    if all(field is first for field in known):
        return first, True
    stride = max(field.stride for field in known)
    if len(first.reads) > 1 and any(field.stride != stride for field in known):
        return None, False
    hull = AxisField(
        image_size=first.image_size,
        first=min(field.first for field in known),
        last=max(field.last for field in known),
        stride=stride,
        reads=tuple(_union(unit) for unit in zip(*(field.reads for field in known), strict=True)),
    )
    return hull, len({field.first + field.last for field in known}) == 1


def _union(columns: Iterable[int]) -> int:
    return reduce(or_, columns, 0)

"""What the units of a map see of the image, along one axis.

Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019: unit i of a map sees
the columns [first + i * stride, last + i * stride], where `stride` is the effective stride (the jump), `first` is minus
the effective padding, and last - first + 1 is the receptive field. Through one layer with stride s, pad p before, and
effective kernel k = dilation * (kernel_size - 1) + 1:

    stride' = stride * s        first' = first - p * stride        last' = last + (k - 1 - p) * stride

That is where the units *could* look. `reads` holds where they really do: for each unit, a bit for each image column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_

from stridelab.geometry.axis import AxisGeometry


@dataclass(frozen=True, slots=True, eq=False)
class AxisField:
    """The fields of all units of a map along one axis (compared by identity, so that they are cheap cache keys)."""

    image_size: int
    first: int
    """First column of unit 0's field; negative where it reaches into padding."""
    last: int
    stride: int
    reads: tuple[int, ...]
    """For each unit, the image columns that it truly reads, as bits."""
    seen: int
    """How many image columns at least one unit reads."""
    whole: bool = False
    """One unit that looks at the whole map: a global pool, flatten, and what follows them."""

    @property
    def size(self) -> int:
        """The receptive field."""
        return self.last - self.first + 1

    @property
    def clear_units(self) -> int:
        """How many units have a field that stays inside the image."""
        first_clear = max(0, -(self.first // self.stride))
        last_clear = min(len(self.reads) - 1, (self.image_size - 1 - self.last) // self.stride)
        return max(0, last_clear - first_clear + 1)


PADDING_MODES: dict[str, Callable[[int, int], int | None]] = {
    "circular": lambda column, size: column % size,
    "reflect": lambda column, size: size - 1 - abs(size - 1 - abs(column)),
    "replicate": lambda column, size: min(max(column, 0), size - 1),
    "zeros": lambda column, size: None,
}
"""Mode -> (column outside the map, size of the map) -> the real column that the padding repeats there, if any."""


@lru_cache(maxsize=32)
def image_field(size: int) -> AxisField:
    return AxisField(size, 0, 0, 1, tuple(1 << column for column in range(size)), size)


@lru_cache(maxsize=128)
def through(
    field: AxisField, axis: AxisGeometry, padding_mode: str = "zeros", *, whole: bool = False
) -> AxisField | None:
    """The fields behind one more layer; None where its windows are not all alike."""
    if not axis.regular:
        return None
    if not whole and axis.kernel_size == axis.stride == 1 and axis.output_size == axis.input_size:
        return field
    reads = _reads(field.reads, axis, padding_mode)
    return AxisField(
        image_size=field.image_size,
        first=field.first - axis.pad_before * field.stride,
        last=field.last + (axis.span - 1 - axis.pad_before) * field.stride,
        stride=field.stride * axis.stride,
        reads=reads,
        seen=reduce(or_, reads).bit_count(),
        whole=field.whole or whole,
    )


def _reads(below: tuple[int, ...], axis: AxisGeometry, padding_mode: str) -> tuple[int, ...]:
    size, repeat = len(below), PADDING_MODES[padding_mode]

    def column(index: int) -> int:
        real: int | None = index if 0 <= index < size else repeat(index, size)
        return 0 if real is None else below[real]

    before, end = axis.pad_before, (axis.output_size - 1) * axis.stride + axis.span
    padded = [column(index) for index in range(-before, end - before)]
    starts = range(0, axis.output_size * axis.stride, axis.stride)
    return tuple(reduce(or_, padded[at : at + axis.span : axis.dilation]) for at in starts)


def merge(fields: Sequence[AxisField]) -> tuple[AxisField | None, bool]:
    """The field of a unit that is fed by several branches, and whether the branches are aligned.

    Aligned branches have equal effective strides and equal centres (Araujo et al. 2019), and the field is the largest
    branch's. Where only centres differ, it is the hull of the branches. Where strides differ, no single figure is true
    of all units: None.
    """
    first, *rest = fields
    if all(field is first for field in rest):
        return first, True
    whole = all(field.whole for field in fields)
    aligned = whole or len({(field.stride, field.first + field.last) for field in fields}) == 1
    if not whole and len({field.stride for field in fields}) > 1:
        return None, False
    return _hull(tuple(fields)), aligned


def _hull(fields: tuple[AxisField, ...]) -> AxisField:
    reads = tuple(reduce(or_, unit) for unit in zip(*(field.reads for field in fields), strict=True))
    return AxisField(
        image_size=fields[0].image_size,
        first=min(field.first for field in fields),
        last=max(field.last for field in fields),
        stride=max(field.stride for field in fields),
        reads=reads,
        seen=reduce(or_, reads).bit_count(),
        whole=all(field.whole for field in fields),
    )

"""Padding policies: what a person writes, and the explicit (before, after) pads that it means on one axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Pair = tuple[int, int]
"""(height, width) of a layer, or (before, after) of an axis."""

AxisPadding = int | tuple[int, int] | str
"""Padding of one axis: symmetric, (before, after), or the name of a policy in `PADDINGS`."""


def _valid(input_size: int, span: int, stride: int) -> Pair:
    return 0, 0


def _same(input_size: int, span: int, stride: int) -> Pair:
    """TensorFlow, Keras, XLA, JAX: output ceil(n / stride), the odd unit goes after."""
    total = max(0, (-(-input_size // stride) - 1) * stride + span - input_size)
    return total // 2, total - total // 2


def _same_lower(input_size: int, span: int, stride: int) -> Pair:
    """JAX's and ONNX's SAME_LOWER: as `same`, but the odd unit goes before."""
    before, after = _same(input_size, span, stride)
    return after, before


def _half(input_size: int, span: int, stride: int) -> Pair:
    """What PyTorch users write as padding=1 for a 3x3: dilation * (kernel_size - 1) // 2 on either side."""
    return (span - 1) // 2, (span - 1) // 2


def _torch_same(input_size: int, span: int, stride: int) -> Pair:
    """PyTorch's padding='same': dilation * (kernel_size - 1) in all, whatever the input; stride 1 only."""
    if stride != 1:
        raise ValueError(
            f"padding 'torch_same' means nothing at stride {stride}: PyTorch's constant pads keep the size "
            "at stride 1 only, so PyTorch refuses any other; choose same (TensorFlow's rule, "
            "output = ceil(input / stride)) or half"
        )
    return (span - 1) // 2, span - 1 - (span - 1) // 2


PADDINGS: dict[str, Callable[[int, int, int], Pair]] = {
    "half": _half,
    "same": _same,
    "same_lower": _same_lower,
    "torch_same": _torch_same,
    "valid": _valid,
}
"""Name -> (input size, span, stride) -> (before, after); span = dilation * (kernel_size - 1) + 1, the
effective kernel.
"""


@dataclass(frozen=True)
class PaddingMode:
    repeats: Callable[[int, int], int | None]
    """(column outside the map, size of the map) -> the real column that is repeated there; None: a zero."""
    margin: int | None = None
    """How many columns fewer than the map has a side may be padded by; None: any number."""
    keeps_input: bool = False
    """PyTorch keeps the unpadded map for the backward pass."""


PADDING_MODES: dict[str, PaddingMode] = {
    "zeros": PaddingMode(lambda column, size: None),
    "reflect": PaddingMode(lambda column, size: size - 1 - abs(size - 1 - abs(column)), margin=1, keeps_input=True),
    "replicate": PaddingMode(lambda column, size: min(max(column, 0), size - 1), keeps_input=True),
    "circular": PaddingMode(lambda column, size: column % size, margin=0),
}
"""What the padding holds. The first four are PyTorch's; networks pad by `repeats` in any other."""

CHOICES = f"{', '.join(PADDINGS)}, an integer, [height, width] or [left, right, top, bottom]"


def parse_padding(policy: object) -> tuple[AxisPadding, AxisPadding]:
    """The (height, width) padding that a layer's policy means; its own results are policies too.

    A policy is an int (both axes, symmetric), [height, width] as in PyTorch, four ints [left, right, top,
    bottom] as in ZeroPad2d, or a name in `PADDINGS`. Each member of a pair may be a name or (before, after)
    too.

    >>> parse_padding(1), parse_padding("same"), parse_padding([0, 1, 2, 2])
    ((1, 1), ('same', 'same'), (2, (0, 1)))
    """
    if isinstance(policy, (list, tuple)):
        if len(policy) == 2:
            return _axis_padding(policy[0], policy), _axis_padding(policy[1], policy)
        if len(policy) == 4:
            left, right, top, bottom = policy
            return _axis_padding((top, bottom), policy), _axis_padding((left, right), policy)
        raise _refusal(policy)
    axis = _axis_padding(policy, policy)
    return axis, axis


def _axis_padding(padding: object, policy: object) -> AxisPadding:
    match padding:
        case str() if padding in PADDINGS:
            return padding
        case bool():
            pass
        case int():
            return _not_negative(padding, policy)
        case [int(before), int(after)] if not isinstance(before, bool) and not isinstance(after, bool):
            _not_negative(before, policy)
            _not_negative(after, policy)
            return before if before == after else (before, after)
    raise _refusal(policy)


def _not_negative(pad: int, policy: object) -> int:
    if pad < 0:
        raise ValueError(f"padding {policy!r} has a negative pad of {pad}; pads must be 0 or more")
    return pad


def _refusal(policy: object) -> ValueError:
    return ValueError(f"{policy!r} is not a padding policy; choose one of {CHOICES}")


def explicit_pads(padding: AxisPadding, *, input_size: int, span: int, stride: int) -> Pair:
    """The (before, after) pads of one axis, where `span` is the effective kernel.

    >>> explicit_pads("same", input_size=224, span=7, stride=2)
    (2, 3)
    """
    padding = _axis_padding(padding, padding)
    if isinstance(padding, str):
        return PADDINGS[padding](input_size, span, stride)
    return (padding, padding) if isinstance(padding, int) else padding

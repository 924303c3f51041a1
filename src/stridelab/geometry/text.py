"""Figures and names as people read them."""

from __future__ import annotations

from stridelab.geometry.padding import AxisPadding, Pair


def field(receptive_field: Pair | None, image: Pair) -> str:
    """11 of 28 px."""
    if receptive_field is None:
        return "?"
    square = receptive_field[0] == receptive_field[1] and image[0] == image[1]
    if square:
        return f"{receptive_field[0]} of {image[0]} px"
    return f"{receptive_field[0]}x{receptive_field[1]} of {image[0]}x{image[1]} px"


def pads(pad: tuple[Pair, Pair]) -> str:
    """1 when all around, else as ZeroPad2d has it: left,right,top,bottom."""
    (top, bottom), (left, right) = pad
    if top == bottom == left == right:
        return str(top)
    return f"{left},{right},{top},{bottom}"


def policy(padding: tuple[AxisPadding, AxisPadding]) -> str:
    """The name of the padding, where it has one."""
    return padding[0] if isinstance(padding[0], str) and padding[0] == padding[1] else ""

"""Figures and names as people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stridelab.geometry.padding import AxisPadding, Pair


def human(count: float | None) -> str:
    """Three digits: 640, 23.6 k, 7.45 M; ? for what cannot be known."""
    return "?" if count is None else scaled(count, 1000, ("", " k", " M", " G", " T", " P"))


def human_bytes(count: int | None) -> str:
    return "?" if count is None else scaled(count, 1024, (" B", " KiB", " MiB", " GiB", " TiB"))


def scaled(count: float, step: int, units: Sequence[str]) -> str:
    size = float(count)
    for unit in units[:-1]:
        if size < 999.5:
            return three_digits(size, whole=unit == units[0]) + unit
        size /= step
    return three_digits(size, whole=False) + units[-1]


def three_digits(size: float, *, whole: bool) -> str:
    if whole or size >= 99.95:
        return f"{size:,.0f}"
    return f"{size:.1f}" if size >= 9.995 else f"{size:.2f}"


def side(pair: Pair | None) -> str:
    """14, or 14x7 where the axes differ."""
    if pair is None:
        return "?"
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def maps(sizes: Sequence[Pair]) -> str:
    return ">".join(map(side, sizes))


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


def one_line(text: str) -> str:
    """Without what could move a terminal's cursor or break a row or an XML file in two."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def markdown_text(text: str) -> str:
    """Nothing in `text` can start markup, end a cell or be HTML."""
    text = re.sub(r"([\\`*\[\]|~$])|(?<!\w)_|_(?!\w)", lambda found: "\\" + found.group(), one_line(text))
    return text.replace("&", "&amp;").replace("<", "&lt;")

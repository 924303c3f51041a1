"""Numbers, sizes and foreign text as people read them: one spelling for each, in every table, sentence and drawing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction

Pair = Sequence[int | Fraction]
"""(height, width)."""


def human(value: float | None) -> str:
    """Three digits, and a unit from 10,000 on; an int below that as it is. `?` for None (cannot be known), `-` for NaN
    (was not measured).

    >>> [human(value) for value in (0.5219, 52.19, 640, 2500, 93_962, 18_120_000, None)]
    ['0.522', '52.2', '640', '2,500', '94.0 k', '18.1 M', '?']
    """
    if value is None:
        return "?"
    if not math.isfinite(value):
        return "-"
    for step, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= 0.9995 * step and abs(value) >= 9999.5:
            return three_digits(value / step) + unit
    return f"{value:,}" if isinstance(value, int) else three_digits(value)


def three_digits(value: float) -> str:
    """0.522, 5.22, 52.2, 522, 5,220."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(float(f"{value:.3g}")))))
    return f"{value:,.{min(decimals, 6)}f}"


def human_bytes(count: float | None) -> str:
    """`640 B`, `23.6 KiB`; `?` for None."""
    if count is None:
        return "?"
    size, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 999.5 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:,.0f} B" if units[0] == "B" else f"{three_digits(size)} {units[0]}"


def at_least(total: int | None, known: int, spelled: Callable[[int], str]) -> str:
    """A sum, or what is known of it where it is None: `at least 7.45 M`."""
    return f"at least {spelled(known)}" if total is None else spelled(total)


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def plural(count: int, noun: str) -> str:
    """`1 run`, `1,200 runs`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def few(names: Sequence[str], most: int) -> str:
    """The first of them, and how many more there are.

    >>> few(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def with_unit(name: str, unit: str) -> str:
    """`latency, ms`; the name alone of a plain number."""
    return f"{name}, {unit}" if unit else name


def as_heading(words: str) -> str:
    """
    >>> as_heading("test mIoU")
    'Test mIoU'
    """
    return words[:1].upper() + words[1:]


def side(size: Pair | None) -> str:
    """14, or 14x7 where height and width differ; `?` for None.

    >>> side((14, 14)), side((14, 7)), side(None)
    ('14', '14x7', '?')
    """
    if size is None:
        return "?"
    height, width = size
    return str(height) if height == width else by(size)


def field(receptive_field: Pair | None, image: Pair) -> str:
    """11 of 28 px."""
    if receptive_field is None:
        return "?"
    spell = by if len({*receptive_field}) > 1 or len({*image}) > 1 else side
    return f"{spell(receptive_field)} of {spell(image)} px"


def pads(pad: Sequence[Pair]) -> str:
    """1 when all around, else as ZeroPad2d has it: left,right,top,bottom."""
    (top, bottom), (left, right) = pad
    return str(top) if top == bottom == left == right else f"{left},{right},{top},{bottom}"


def policy(padding: Sequence[object]) -> str:
    """The name of a layer's padding, where both axes have one and the same."""
    return padding[0] if isinstance(padding[0], str) and padding[0] == padding[1] else ""


def short_variant(name: str) -> str:
    """What differs, without the words that its form tells.

    >>> short_variant("strides=2-2-1 padding=valid"), short_variant("padding=1 lr=0.1")
    ('2-2-1 valid', 'padding=1 lr=0.1')
    """
    return re.sub(r"\b(?:strides=(?=\d)|(?:padding|padding_mode|downsample)=(?=[a-z]))", "", name)


def by(size: Iterable[object]) -> str:
    """28x28: every side of a size, of a kernel or of a tensor."""
    return "x".join(map(str, size))


def maps(sizes: Iterable[Pair]) -> str:
    """The image and the maps after it, from first to last: 28>28>14>7."""
    return ">".join(map(side, sizes))


def number_or_word(word: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def parts(value: object, separator: str) -> object:
    """`1-2-2` or `48x64`, as a person types it, as a list, numbers as integers; anything else as it is.

    >>> parts("1-2-2", "-"), parts("48x64", "x"), parts("same", "-"), parts(3, "x")
    ([1, 2, 2], [48, 64], 'same', 3)
    """
    if not isinstance(value, str) or separator not in value.strip(separator):
        return value
    return [int(part) if part.isdecimal() and part.isascii() else part for part in value.split(separator)]


def printable(text: object, *, limit: int | None = None) -> str:
    r"""One line that can move no cursor, break no row and turn no word round: what is not printable (control
    characters, terminal escapes, line ends, marks of direction) is escaped. Too long a text loses its middle.

    >>> printable("a\x1b[2Jb"), printable("x" * 20, limit=11)
    ('a\\x1b[2Jb', 'xxxxx...xxx')
    """
    line = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in str(text))
    if limit is None or len(line) <= limit:
        return line
    return f"{line[: limit // 2]}...{line[len(line) - (limit - limit // 2 - 3) :]}"


def markdown_text(text: str) -> str:
    """Nothing in `text` can start markup, end a cell or be HTML."""
    text = re.sub(r"([\\`*\[\]|~$])|(?<!\w)_|_(?!\w)", lambda found: "\\" + found.group(), printable(text))
    return text.replace("&", "&amp;").replace("<", "&lt;")

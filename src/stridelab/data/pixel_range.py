"""Images of more than 8 bits a value: which they are, and how the values of a whole set become 0 to 255.

Pillow itself clips them to 255 or keeps their upper 8 bits, by mode: a 12-bit camera's images would be nearly black.
No torch here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stridelab.text import plural

COLOUR = "16-bit colour"
"""Of which Pillow keeps only the upper 8 bits."""
DEEP_RAW = re.compile(r"(L|LA|RGB|RGBA|RGBX|RGBa|RGBaX|CMYK);16[BLN]|L;16")
"""Pillow's names of how 16-bit values lie in a file whose image it gives 8 bits."""
HALF_BYTE = 128
LOST = "of more than 8 bits a value that became one single grey: the range of the set is too wide for its values"


class UnreadableError(Exception):
    """Why an image cannot be used, in a few words."""


@dataclass(frozen=True, slots=True)
class Range:
    """The lowest and highest value of images of one kind."""

    kind: str
    low: float
    high: float

    def joined(self, other: Range | None) -> Range:
        return self if other is None else Range(self.kind, min(self.low, other.low), max(self.high, other.high))

    @property
    def ends(self) -> tuple[float, float]:
        """What becomes 0 and what becomes 255: the smallest usual range that holds all values (of 8, 9, ... bits; of
        floating point, 0 to 1 or 255), or their own range, when it is less than a quarter of that."""
        tops = (1.0, 255.0) if self.kind == "floating-point" else [float(2**bits - 1) for bits in range(8, 32)]
        top = next((top for top in tops if self.low >= 0 and self.high <= top), None)
        is_byte = top == 255 and self.kind != "floating-point"
        if top is None or (not is_byte and 4 * (self.high - self.low) < top):
            return self.low, self.high
        return 0.0, top

    def note(self, count: int) -> str:
        if self.kind == COLOUR:
            return f"{plural(count, 'image')} of 16-bit colour: the upper 8 bits of each value are taken"
        low, high = self.ends
        return (
            f"{plural(count, f'{self.kind} image')} with values from {self.low:,.6g} to {self.high:,.6g}: "
            f"{low:,.6g} to {high:,.6g} became 0 to 255"
        )


def kind_of(image: Image.Image) -> str | None:
    """Of an image that is opened and not loaded; None: 8 bits a value."""
    if image.mode == "F":
        return "floating-point"
    if image.mode.startswith("I"):
        return "16-bit" if image.mode.startswith("I;16") else "32-bit"
    arguments = [tile[3] for tile in getattr(image, "tile", [])]
    names = [names if isinstance(names, str) else names[0] for names in arguments if names]
    return COLOUR if any(isinstance(name, str) and DEEP_RAW.fullmatch(name) for name in names) else None


def range_of(image: Image.Image, kind: str) -> Range:
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise UnreadableError("its pixels are not all finite numbers")
    return Range(kind, float(values.min()), float(values.max()))


def eight_bits(image: Image.Image, within: Range) -> Image.Image:
    """Integers a to b become (value - a) * 256 // (b - a + 1), floating-point numbers the nearest of 0 to 255."""
    if within.kind == COLOUR:
        if within.high < HALF_BYTE:
            raise UnreadableError("its 16-bit colours use low values only, of which Pillow reads the upper 8 bits")
        return image
    values = np.asarray(image)
    pixels = np.empty(values.shape, np.uint8)
    for row, scaled in zip(values, pixels, strict=True):  # a row at a time: the copies below are wide
        scaled[:] = scale(row, within)
    return Image.fromarray(pixels)


def has_lost_all(before: Image.Image, after: Image.Image) -> bool:
    """Whether scaling by the set's range, which one bright pixel can widen, left nothing of what was to be seen."""
    low, high = after.getextrema()
    return low == high and float(np.ptp(np.asarray(before))) > 0


def scale(values: NDArray[np.generic], within: Range) -> NDArray[np.float64] | NDArray[np.int64]:
    low, high = within.ends
    if within.kind == "floating-point":
        return np.rint((values.astype(np.float64) - low) * (255 / ((high - low) or 1)))
    return (values.astype(np.int64) - int(low)) * 256 // (int(high) - int(low) + 1)

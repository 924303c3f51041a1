"""One image file -> uint8 [height, width, channels]. No torch here."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

RUNS_PROGRAMS = {"EPS"}
"""Formats that Pillow leaves to other programs (Ghostscript): files of strangers shall not start any."""
FIRST = ("JPEG", "PNG")
ORIENTATION = 0x0112
"""EXIF tag of how the camera was held."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
MODES = {1: "L", 3: "RGB"}
"""Pillow's, by number of channels."""


class UnreadableError(Exception):
    """Why an image cannot be used, in a few words."""


@cache
def formats() -> tuple[str, ...]:
    """All that Pillow opens by itself, the usual ones first."""
    Image.init()
    return *FIRST, *sorted(set(Image.OPEN) - set(FIRST) - RUNS_PROGRAMS)


@cache
def suffixes() -> frozenset[str]:
    known = set(formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def read_image(path: Path, *, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Upright as EXIF says, in grey or RGB (transparency dropped, of 16 bits the upper 8), scaled with its aspect kept
    until it just covers `size`, and the centre cut out: torchvision's Resize (bilinear, antialiased) and CenterCrop.

    UnreadableError for whatever is wrong with the file.
    """
    try:
        with Image.open(path, formats=formats()) as image:
            image.load()
            plain = eight_bits(image).convert(MODES[channels])
            turned = plain.transpose(UPRIGHT[turn]) if (turn := orientation(image)) in UPRIGHT else plain
        pixels = np.asarray(covering(turned, size))
        return pixels.reshape(*size, channels)
    except Exception as error:  # a file can be wrong in any way, and Pillow's plugins raise whatever comes
        raise UnreadableError(reason(path, error)) from None


def orientation(image: Image.Image) -> int:
    """1 to 8; 1 when there is none or it is damaged, as other programs take it."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF is often damaged in files that are fine otherwise
        return 1


def eight_bits(image: Image.Image) -> Image.Image:
    """Pillow itself clips 16 bits to 255 for some modes and shifts them for others."""
    if image.mode == "F":
        raise UnreadableError("its pixels are floating-point numbers of unknown range")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise UnreadableError("its pixels have 32 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))


def covering(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scaled to the smallest image of its aspect that covers `size` (height, width), and its centre of that size."""
    height, width = size
    if image.width * height <= image.height * width:
        scaled = width, max(height, int(width * image.height / image.width))
    else:
        scaled = max(width, int(height * image.width / image.height)), height
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
    return image if scaled == (width, height) else image.crop((left, top, left + width, top + height))


def reason(path: Path, error: Exception) -> str:
    if isinstance(error, UnreadableError):
        return str(error)
    if isinstance(error, UnidentifiedImageError):
        return "it is empty" if not path.stat().st_size else "Pillow finds no image in it"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it has more than Pillow's limit of {Image.MAX_IMAGE_PIXELS:,} pixels"
    return (str(error).splitlines() or [""])[0][:100] or type(error).__name__


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Images of more than Pillow's limit of pixels are errors; what it warns of else (metadata, palettes) is not
    said. For the whole process: enter it once, around all threads that read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.filterwarnings("error", category=Image.DecompressionBombWarning)
        yield

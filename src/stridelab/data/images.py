"""One image file -> uint8 [height, width, channels]. No torch here."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from stridelab.system.memory import give_back_freed_memory

from .memory_budget import MemoryBudget
from .pixel_range import COLOUR, LOST, Range, UnreadableError, eight_bits, has_lost_all, kind_of, range_of

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
SCALED_PIXELS = 1 << 26
"""Most pixels that an image is scaled up to."""
PIXEL_BYTES = 8
"""Of memory for each pixel of an image while it is read: Pillow's four, and four of its copy in another mode."""
LARGE_BYTES = 64 << 20
"""Of an image whose memory is given back to the system: C libraries keep what each thread frees."""
MEMORY = MemoryBudget(512 << 20)
"""For all images that are decoded at a time; a larger one, up to Pillow's limit of pixels, is decoded alone."""


@cache
def formats() -> tuple[str, ...]:
    """All that Pillow opens by itself, the usual ones first; HEIC too where pillow-heif is installed."""
    Image.init()
    with suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    return *FIRST, *sorted(set(Image.OPEN) - set(FIRST) - RUNS_PROGRAMS)


@cache
def suffixes() -> frozenset[str]:
    known = set(formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def read_image(
    path: Path,
    *,
    size: tuple[int, int],
    channels: int,
    ranges: Mapping[str, Range] = MappingProxyType({}),
    note: Callable[[str], object] = lambda trait: None,
) -> NDArray[np.uint8] | Range:
    """Upright as EXIF says, in grey or RGB, scaled with its aspect kept until it just covers `size`, and the centre cut
    out: torchvision's Resize (bilinear, antialiased) and CenterCrop. Transparency is dropped, and of several frames the
    first is taken; `note` is told.

    What has more than 8 bits a value is scaled as `ranges` says for its kind; when they say nothing, the range of this
    image's values is returned instead. UnreadableError for whatever is wrong with the file.
    """
    try:
        image = Image.open(path, formats=formats())
        with MEMORY.held(num_bytes := image.width * image.height * PIXEL_BYTES):
            try:
                return pixels_of(image, size=size, channels=channels, ranges=ranges, note=note)
            finally:
                image.close()  # its pixels go while their memory is still held
                if num_bytes > LARGE_BYTES:
                    give_back_freed_memory()
    except Exception as error:  # a file can be wrong in any way, and Pillow's plugins raise whatever comes
        raise UnreadableError(reason(path, error)) from None


def pixels_of(
    image: Image.Image,
    *,
    size: tuple[int, int],
    channels: int,
    ranges: Mapping[str, Range],
    note: Callable[[str], object],
) -> NDArray[np.uint8] | Range:
    """Of an image that is opened; see `read_image`."""
    refuse_stretched(image.size, size)
    kind = kind_of(image)  # of the file: loading forgets it
    image.load()
    for trait in traits(image) if kind not in ranges else ():  # once, of an image that is read twice
        note(trait)
    plain = image if kind not in (None, COLOUR) else in_mode(image, MODES[channels])
    if kind is not None:
        if kind not in ranges:
            return range_of(plain, kind)
        scaled = eight_bits(plain, ranges[kind])
        if kind != COLOUR and has_lost_all(plain, scaled):
            note(LOST)
        plain = in_mode(scaled, MODES[channels])
    turned = plain.transpose(UPRIGHT[turn]) if (turn := orientation(image)) in UPRIGHT else plain
    return np.array(covering(turned, size)).reshape(*size, channels)


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def orientation(image: Image.Image) -> int:
    """1 to 8; 1 when there is none or it is damaged, as other programs take it."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # EXIF is often damaged in files that are fine otherwise
        return 1


def traits(image: Image.Image) -> list[str]:
    """What is lost of it."""
    found = ["with transparency, which is dropped"] * image.has_transparency_data
    return found + ["of several frames or pages, of which the first is taken"] * getattr(image, "is_animated", False)


def refuse_stretched(image: tuple[int, int], size: tuple[int, int]) -> None:
    """A line of 1 x 10,000 pixels that is to cover 64x64 would be scaled to 64 x 640,000."""
    scaled = math.prod(scaled_size(image, size))
    if scaled > max(math.prod(image), SCALED_PIXELS):
        raise UnreadableError(
            f"scaled to cover {size[0]}x{size[1]}, its {image[0]}x{image[1]} pixels would be {scaled:,}"
        )


def covering(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scaled to the smallest image of its aspect that covers `size` (height, width), and its centre of that size."""
    height, width = size
    scaled = scaled_size(image.size, size)
    if scaled != image.size:
        image = image.resize(scaled, Image.Resampling.BILINEAR)
    left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
    return image if scaled == (width, height) else image.crop((left, top, left + width, top + height))


def scaled_size(image: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of an image of (width, height) scaled until it just covers `size`, which is (height, width)."""
    height, width = size
    if image[0] * height <= image[1] * width:
        return width, max(height, int(width * image[1] / image[0]))
    return max(width, int(height * image[0] / image[1])), height


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

"""The photograph that receptive fields are drawn on."""

from __future__ import annotations

import gzip
from base64 import b64encode
from io import BytesIO

from PIL import Image

from stridelab.data.catalog.arrays import EMBEDDED
from stridelab.geometry import Pair

FILE, HEADER, SIDE = "t10k-images-idx3-ubyte.gz", 16, 28
ANKLE_BOOT = 37
"""Its place among the embedded test images."""
CREDIT = "Photograph: an ankle boot of Fashion-MNIST, Zalando Research, MIT licence"


def picture(size: Pair) -> str:
    """A data URI of `size` (height, width) pixels; the set's own are 28x28."""
    with gzip.open(EMBEDDED / FILE) as file:
        file.seek(HEADER + ANKLE_BOOT * SIDE * SIDE)
        boot = Image.frombytes("L", (SIDE, SIDE), file.read(SIDE * SIDE))
    height, width = size
    png = BytesIO()
    boot.resize((width, height), Image.Resampling.BICUBIC).save(png, "PNG")
    return f"data:image/png;base64,{b64encode(png.getvalue()).decode()}"

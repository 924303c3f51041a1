"""Three photographs of surfaces, cut into patches. No torch here."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .catalog.composed import PATCH_PX, PATCH_ROWS, SURFACES, TEST_ROWS
from .formats import Arrays, FileSet


def photographs(files: FileSet) -> NDArray[np.uint8]:
    """uint8 [3, 512, 512], in the order of `SURFACES`."""
    return np.stack([np.asarray(Image.open(BytesIO(files.read(f"{name}.png")))) for name in SURFACES])


def read_textures(files: FileSet) -> Arrays:
    """Disjoint patches, the photographs one after the other; the lowest rows are the test split."""
    count = PATCH_ROWS
    inner = photographs(files)[:, : count * PATCH_PX, : count * PATCH_PX]
    patches = inner.reshape(3, count, PATCH_PX, count, PATCH_PX).transpose(0, 1, 3, 2, 4)
    train, test = np.split(patches, [count - TEST_ROWS], axis=1)
    images = [part.reshape(-1, PATCH_PX, PATCH_PX, 1) for part in (train, test)]
    labels = [np.repeat(np.arange(len(SURFACES)), len(part) // len(SURFACES)) for part in images]
    return Arrays(images[0], labels[0], images[1], labels[1])

"""Three photographs of surfaces, cut into patches. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .catalog.arrays import EMBEDDED
from .catalog.composed import PATCH_PX, PATCH_ROWS, SURFACES, TEST_ROWS


def photographs() -> NDArray[np.uint8]:
    """uint8 [3, 512, 512], in the order of `SURFACES`."""
    return np.stack([np.asarray(Image.open(EMBEDDED / f"{name}.png")) for name in SURFACES])


def read_textures() -> Sequence[Any]:
    count = PATCH_ROWS
    inner = photographs()[:, : count * PATCH_PX, : count * PATCH_PX]
    patches = inner.reshape(3, count, PATCH_PX, count, PATCH_PX).transpose(0, 1, 3, 2, 4)
    train, test = np.split(patches, [count - TEST_ROWS], axis=1)
    return [
        array
        for part in (train, test)
        for array in (part.reshape(-1, PATCH_PX, PATCH_PX, 1), np.repeat(np.arange(3), part.shape[1] * part.shape[2]))
    ]

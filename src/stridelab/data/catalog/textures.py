"""Three photographs of surfaces, cut into patches. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .facts import ArrayFunction, DatasetFacts

EMBEDDED = Path(__file__).parents[1] / "embedded"
SURFACES = ("brick", "grass", "gravel")
PATCH_PX, TEST_ROWS = 28, 6
"""Of the 18 rows of patches, the lowest 6 are the test split: no test patch lies between two it was trained on."""


def photographs() -> NDArray[np.uint8]:
    """uint8 [3, 512, 512], in the order of `SURFACES`."""
    return np.stack([np.asarray(Image.open(EMBEDDED / f"{name}.png")) for name in SURFACES])


def read_textures() -> Sequence[Any]:
    count = 512 // PATCH_PX
    inner = photographs()[:, : count * PATCH_PX, : count * PATCH_PX]
    patches = inner.reshape(3, count, PATCH_PX, count, PATCH_PX).transpose(0, 1, 3, 2, 4)
    train, test = np.split(patches, [count - TEST_ROWS], axis=1)
    return [
        array
        for part in (train, test)
        for array in (part.reshape(-1, PATCH_PX, PATCH_PX, 1), np.repeat(np.arange(3), part.shape[1] * part.shape[2]))
    ]


TEXTURES = DatasetFacts(
    input_channels=1,
    input_size=(PATCH_PX, PATCH_PX),
    class_names=SURFACES,
    num_train=3 * 12 * 18,
    num_test=3 * TEST_ROWS * 18,
    source="the photographs brick, grass and gravel (512x512) that scikit-image 0.26 ships, in disjoint patches",
    licence="CC0",
    files=ArrayFunction(read_textures),
)

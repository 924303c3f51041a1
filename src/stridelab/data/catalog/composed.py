"""Data sets that are computed from what comes with this package: one row each. Neither torch nor numpy here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arrays import ARRAY_SETS
from .facts import ArrayFunction, DatasetFacts

SURFACES = ("brick", "grass", "gravel")
PATCH_PX, PATCH_ROWS, TEST_ROWS = 28, 18, 6
"""Of the 18 rows of 18 patches, the lowest 6 are the test split: no test patch lies between two it was trained on."""
SIDE_PX, NUM_TRAIN, NUM_TEST = 64, 8_000, 4_000


def read_textures() -> Sequence[Any]:
    from stridelab.data import textures

    return textures.read_textures()


def read_canvas() -> Sequence[Any]:
    from stridelab.data import canvas

    return canvas.read_canvas()


COMPOSED_SETS: dict[str, DatasetFacts] = {
    "textures": DatasetFacts(
        input_channels=1,
        input_size=(PATCH_PX, PATCH_PX),
        class_names=SURFACES,
        num_train=len(SURFACES) * PATCH_ROWS * (PATCH_ROWS - TEST_ROWS),
        num_test=len(SURFACES) * PATCH_ROWS * TEST_ROWS,
        source="the photographs brick, grass and gravel (512x512) that scikit-image 0.26 ships, in disjoint patches",
        licence="CC0",
        files=ArrayFunction(read_textures),
    ),
    "canvas": DatasetFacts(
        input_channels=1,
        input_size=(SIDE_PX, SIDE_PX),
        class_names=(*ARRAY_SETS["fashion_mnist_mini"].class_names, "nothing"),
        num_train=NUM_TRAIN,
        num_test=NUM_TEST,
        source="composed here: an item of Fashion-MNIST (Zalando Research), 6 to 21 px, in four pictures of five, two "
        "scrambled ones, and a photograph of a surface (scikit-image)",
        licence="MIT, copyright 2017 Zalando SE; photographs CC0",
        files=ArrayFunction(read_canvas),
        targets=("box", "mask"),
    ),
}

"""Data sets that are computed from what comes with this package: one row each. Neither torch nor numpy here."""

from __future__ import annotations

from .arrays import ARRAY_SETS, EMBEDDED, FASHION_MINI_FILES
from .facts import DatasetFacts, Files

SURFACES = ("brick", "grass", "gravel")
PATCH_PX, PATCH_ROWS, TEST_ROWS = 28, 18, 6
"""Of the 18 rows of 18 patches, the lowest 6 are the test split: no test patch lies between two it was trained on."""
SIDE_PX, NUM_TRAIN, NUM_TEST = 64, 8_000, 4_000


_PHOTOGRAPHS = {
    "brick.png": "sha256:7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
    "grass.png": "sha256:b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
    "gravel.png": "sha256:c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
}
_HERE = {"this package": EMBEDDED}

COMPOSED_SETS: dict[str, DatasetFacts] = {
    "textures": DatasetFacts(
        input_channels=1,
        input_size=(PATCH_PX, PATCH_PX),
        class_names=SURFACES,
        num_train=len(SURFACES) * PATCH_ROWS * (PATCH_ROWS - TEST_ROWS),
        num_test=len(SURFACES) * PATCH_ROWS * TEST_ROWS,
        source="the photographs brick, grass and gravel (512x512) that scikit-image 0.26 ships, in disjoint patches",
        licence="CC0",
        files=Files(reader="textures", digests=_PHOTOGRAPHS, elsewhere=_HERE),
    ),
    "canvas": DatasetFacts(
        input_channels=1,
        input_size=(SIDE_PX, SIDE_PX),
        class_names=(*ARRAY_SETS["fashion_mnist_mini"].class_names, "nothing"),
        num_train=NUM_TRAIN,
        num_test=NUM_TEST,
        source="composed here: an item of Fashion-MNIST (Zalando Research), 6 to 21 px, in four pictures of five, on a "
        "photograph of a surface at half its brightness, with two squares of such photographs (scikit-image)",
        licence="MIT, copyright 2017 Zalando SE; photographs CC0",
        files=Files(reader="canvas", digests={**FASHION_MINI_FILES.digests, **_PHOTOGRAPHS}, elsewhere=_HERE),
        targets=("box", "mask"),
    ),
}

"""Pictures composed of real ones, of which class, box and mask of the one object are known. No torch here.

Every picture is a function of its split and its number: the words of a random stream that never changes (PCG64, whose
raw output numpy's NEP 19 guarantees) and arithmetic on whole numbers, so that it is the same on every machine.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .catalog.composed import NUM_TEST, NUM_TRAIN, SIDE_PX
from .formats import Arrays, FileSet, read_idx
from .textures import photographs

SMALLEST_PX, LARGEST_PX, FRAME_PX, NUM_DISTRACTORS = 6, 21, 28, 2
ABSENT = 5
"""One picture of so many has no object."""
NOTHING = 10
"""The class of a picture without object, and of every pixel that is not the object's."""
TEST_ROW = 344
"""Backgrounds of the test split are cut from the photographs below this row, all others above it."""
Pixels = NDArray[np.uint8]
Words = NDArray[np.uint64]


class Sprites(NamedTuple):
    """Items of one size, as whole numbers that say 784 times what a pixel holds."""

    light: NDArray[np.int64]
    """[n, side, side]: brightness of what covers the pixel."""
    cover: NDArray[np.int64]
    """[n, side, side]: share of the pixel that is covered."""


def read_canvas(files: FileSet) -> Arrays:
    surfaces = photographs(files)
    digests = {name: digest for name, digest in files.digests.items() if not name.endswith(".png")}
    items = read_idx(replace(files, digests=digests))
    train, test = (
        compose(images[..., 0], labels, surfaces[:, rows], count=count, stream=stream)
        for stream, images, labels, rows, count in (
            (0, items.train_images, items.train_labels, slice(0, TEST_ROW), NUM_TRAIN),
            (1, items.test_images, items.test_labels, slice(TEST_ROW, None), NUM_TEST),
        )
    )
    return Arrays(*train[:2], *test[:2], train[2], test[2])


def compose(
    items: Pixels, labels: NDArray[Any], surfaces: Pixels, *, count: int, stream: int
) -> tuple[Pixels, NDArray[np.int64], dict[str, NDArray[Any]]]:
    """Pictures uint8 [count, 64, 64, 1], their classes, and boxes and masks."""
    words = np.random.PCG64(stream).random_raw(count * 32).reshape(count, 32)
    pictures = backgrounds(words[:, :3], surfaces) // 2
    for number in range(NUM_DISTRACTORS):
        its = words[:, 8 + 4 * number : 12 + 4 * number]
        paste(pictures, squares(its[:, 3], surfaces), its)
    chosen = np.arange(count) % len(items)
    present = drawn(words[:, 3], ABSENT) > 0
    masks = np.full((count, SIDE_PX, SIDE_PX), NOTHING, np.uint8)
    classes = np.where(present, labels[chosen], NOTHING)
    paste(pictures, items[chosen], words[:, 4:8], only=present, masks=masks, classes=classes)
    return pictures[..., None], classes.astype(np.int64), {"box": boxes(masks != NOTHING), "mask": masks}


def drawn(words: Words, choices: int | NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers from 0 to choices - 1, uniform to 1 in 2^32 / choices."""
    return ((words >> np.uint64(32)) * np.asarray(choices, np.uint64) >> np.uint64(32)).astype(np.int64)


def backgrounds(words: Words, surfaces: Pixels) -> Pixels:
    """[n, 64, 64] cut out of photographs [3, height, width]."""
    which, inside = drawn(words[:, 0], len(surfaces)), np.arange(SIDE_PX)
    rows, columns = (drawn(words[:, axis], surfaces.shape[axis] - SIDE_PX + 1)[:, None] + inside for axis in (1, 2))
    found: Pixels = surfaces[which[:, None, None], rows[:, :, None], columns[:, None, :]]
    return found


def squares(words: Words, surfaces: Pixels) -> Pixels:
    """[n, 28, 28] cut out of the photographs at their full brightness; never black, so that they cover."""
    places = [words << np.uint64(8 * axis) for axis in range(3)]
    choices = (len(surfaces), *(size - FRAME_PX + 1 for size in surfaces.shape[1:]))
    which, top, left = (drawn(word, number) for word, number in zip(places, choices, strict=True))
    rows, columns = (start[:, None] + np.arange(FRAME_PX) for start in (top, left))
    found: Pixels = surfaces[which[:, None, None], rows[:, :, None], columns[:, None, :]]
    return np.maximum(found, 1)


def paste(
    pictures: Pixels,
    items: Pixels,
    words: Words,
    *,
    only: NDArray[np.bool_] | None = None,
    masks: Pixels | None = None,
    classes: NDArray[Any] | None = None,
) -> None:
    """An item on each picture, of a size and at a place that its words say: 28 pixels of an item become 6 to 21."""
    sides = SMALLEST_PX + drawn(words[:, 0], LARGEST_PX - SMALLEST_PX + 1)
    for side in range(SMALLEST_PX, LARGEST_PX + 1):
        at = np.flatnonzero((sides == side) & (True if only is None else only))
        sprites = scaled(items[at], side)
        top, left = (drawn(words[at, axis], SIDE_PX - side + 1)[:, None] + np.arange(side) for axis in (1, 2))
        place = at[:, None, None], top[:, :, None], left[:, None, :]
        full = FRAME_PX**2
        pictures[place] = (sprites.light + (full - sprites.cover) * pictures[place] + full // 2) // full
        if masks is not None and classes is not None:
            is_item = 2 * sprites.cover >= sprites.cover.max((1, 2), keepdims=True)
            masks[place] = np.where(is_item, classes[at, None, None], masks[place])


def scaled(items: Pixels, side: int) -> Sprites:
    """By area: each pixel of the small picture is the sum of what lies under it. Products of whole numbers, exact."""
    edges = np.minimum(np.arange(1, side + 1)[:, None] * FRAME_PX, np.arange(1, FRAME_PX + 1) * side)
    begins = np.maximum(np.arange(side)[:, None] * FRAME_PX, np.arange(FRAME_PX) * side)
    overlap = np.maximum(edges - begins, 0).astype(np.float64)  # [side, 28], in 1/28 of a small pixel
    light, cover = (overlap @ part.astype(np.float64) @ overlap.T for part in (items, items > 0))
    return Sprites(light.astype(np.int64), cover.astype(np.int64))


def boxes(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[n, 4] of masks: top, left, bottom and right, the last two just outside; zeros where nothing is."""
    ends = []
    for axis in (2, 1):
        line: NDArray[np.bool_] = np.logical_or.reduce(inside, axis)
        ends.append((line.argmax(1), np.where(line.any(1), line.shape[1] - line[:, ::-1].argmax(1), 0)))
    (top, bottom), (left, right) = ends
    return np.stack([top, left, bottom, right], 1)

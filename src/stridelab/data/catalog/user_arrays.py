"""What a function of the user's returns, as arrays that are a data set: checked, and held apart for testing."""

from __future__ import annotations

from collections.abc import Sized
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stridelab.system.user_code import shown
from stridelab.text import by

from .facts import ArrayFunction, DatasetFacts
from .user import USER_DATASETS, UserDataset

Part = tuple[NDArray[Any], NDArray[Any]]
"""Images uint8 [n, height, width, channels], and labels."""
TEST_SHARE = 5
"""Of a set that comes in one part, every fifth image of a class is for testing."""


def facts_of_user(name: str) -> DatasetFacts:
    """ValueError, in one sentence, for a function that raises and for arrays that are no data set."""
    own = USER_DATASETS[name]
    train_images, train_labels, test_images, test_labels = arrays_of(own)
    _, height, width, channels = train_images.shape
    return DatasetFacts(
        input_channels=channels,
        input_size=(height, width),
        class_names=tuple(str(number) for number in range(int(max(train_labels.max(), test_labels.max())) + 1)),
        num_train=len(train_images),
        num_test=len(test_images),
        source=own.said,
        licence="the user's own",
        files=ArrayFunction(lambda: arrays_of(own)),
    )


@lru_cache(maxsize=2)
def arrays_of(own: UserDataset) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Kept in memory, for a process asks for them more than once."""
    try:
        given = own.function()
    except Exception as error:
        raise ValueError(f"data={own.name}: {own.said} raised {shown(error)}.") from error
    try:
        train, test = parts_of(given)
        check(*train, what="training")
        if test is None:
            train, test = held_out(*train)
        check(*test, what="test")
        together(train, test)
    except ValueError as error:
        raise ValueError(f"data={own.name}: {own.said} returned {error}.") from None
    return (*train, *test)


def parts_of(given: Any) -> tuple[Part, Part | None]:
    """(training, test), as they are given; None: not apart."""
    if not isinstance(given, tuple | list):
        return pictures(given), None
    if len(given) == 4:
        return part(*given[:2]), part(*given[2:])
    if len(given) == 2 and is_dataset(given[0]):
        return pictures(given[0]), pictures(given[1])
    if len(given) == 2:
        return part(*given), None
    raise ValueError(
        f"a {type(given).__name__} of {len(given)}; expected are images and labels, training and test images each with "
        "labels (4 arrays), or one or two torch Datasets"
    )


def is_dataset(thing: object) -> bool:
    return hasattr(thing, "__getitem__") and isinstance(thing, Sized) and not hasattr(thing, "dtype")


def part(images: Any, labels: Any) -> Part:
    pixels = np.asarray(images)
    return (pixels[..., None] if pixels.ndim == 3 else pixels), np.asarray(labels)


def pictures(dataset: Any) -> Part:
    """Of a Dataset of (PIL image or uint8 array or tensor [channels, height, width], label)."""
    if not is_dataset(dataset):
        raise ValueError(f"a {type(dataset).__name__}; expected are arrays, or a torch Dataset of (image, label)")
    images, labels = [], []
    for index in range(len(dataset)):
        image, label = dataset[index]
        pixels = np.asarray(image)
        if hasattr(image, "permute") and pixels.ndim == 3:
            pixels = pixels.transpose(1, 2, 0)
        images.append(pixels[..., None] if pixels.ndim == 2 else pixels)
        labels.append(label)
    if len({image.shape for image in images}) > 1:
        sizes = sorted({by(image.shape[:2]) for image in images})
        raise ValueError(f"images of {len(sizes)} sizes ({', '.join(sizes[:4])}, ...); resize them to one")
    return np.stack(images) if images else np.zeros((0, 1, 1, 1), np.uint8), np.asarray(labels)


def check(images: NDArray[Any], labels: NDArray[Any], *, what: str) -> None:
    """ValueError, to go on after `returned`."""
    if images.ndim != 4 or images.shape[3] > 4:
        raise ValueError(
            f"{what} images of shape {list(images.shape)}; expected is [number, height, width, channels], of 1 to 4 "
            "channels"
        )
    if images.dtype != np.uint8:
        numbers = np.nan_to_num(images.astype(np.float64)) if images.size else images
        span = f", from {numbers.min():.4g} to {numbers.max():.4g}" if images.size else ""
        raise ValueError(
            f"{what} images of {images.dtype}{span}; expected are pixels of uint8, 0 to 255, which are normalised by "
            "the mean and deviation of the training images"
        )
    if not len(images):
        raise ValueError(f"no {what} image")
    if labels.shape != (len(images),):
        raise ValueError(
            f"{len(images)} {what} images, but labels of shape {list(labels.shape)}; one for each is expected"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise ValueError(f"{what} labels that are no numbers: {int((~np.isfinite(labels)).sum())} are NaN or infinite")
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{what} labels of {labels.dtype}; expected are whole numbers from 0, one a class")
    if labels.min() < 0:
        raise ValueError(f"a {what} label of {labels.min()}; classes are counted from 0")


def held_out(images: NDArray[Any], labels: NDArray[Any]) -> tuple[Part, Part]:
    """Every fifth image of each class for testing."""
    place = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        place[of_class] = np.arange(len(of_class))
    is_test = place % TEST_SHARE == TEST_SHARE - 1
    return (images[~is_test], labels[~is_test]), (images[is_test], labels[is_test])


def together(train: Part, test: Part) -> None:
    if train[0].shape[1:] != test[0].shape[1:]:
        sizes = [by(images.shape[1:]) for images, _ in (train, test)]
        raise ValueError(f"training images of {sizes[0]} and test images of {sizes[1]}")
    classes = int(train[1].max()) + 1
    if classes < 2:
        raise ValueError("training labels of one class; there is nothing to tell apart")
    if absent := sorted(set(range(classes)) - set(train[1].tolist())):
        raise ValueError(f"no training image of class {absent[0]}, while labels go to {classes - 1}")
    if int(test[1].max()) >= classes:
        raise ValueError(f"a test label of {test[1].max()}, while training labels go from 0 to {classes - 1}")

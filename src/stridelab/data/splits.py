"""The three splits of a data set, and what is computed from their images."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .catalog.facts import DatasetFacts, DataSpec
from .storage import OnDisk, take

PART_BYTES = 16 << 20


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    """Rows of a storage that other splits may share."""

    storage: Tensor | OnDisk
    """uint8 [N, channels, height, width], channels last in memory; or images in a file."""
    labels: Tensor
    """int64 [n]."""
    rows: Tensor | None = None
    """int64 [n]: where in the storage each image is; None: all of it, in its order."""
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    """What else is known of each image, by name: `DatasetFacts.targets`; each [n, ...]."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, which: slice | Tensor) -> Tensor:
        """Some images, by their position in the split: uint8 [n, channels, height, width]."""
        return take(self.storage, which if self.rows is None else self.rows[which])

    @property
    def images(self) -> Tensor:
        """All of them at once, uint8 [n, channels, height, width], channels last in memory."""
        return self.take(slice(None))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        if isinstance(self.storage, OnDisk):
            _, height, width, channels = self.storage.shape
        else:
            _, channels, height, width = self.storage.shape
        return channels, height, width

    def parts(self) -> Iterator[Tensor]:
        """All images in their order, a few at a time."""
        count = max(1, PART_BYTES // math.prod(self.image_shape))
        for start in range(0, len(self), count):
            yield self.take(slice(start, start + count))


@dataclass(frozen=True, eq=False, slots=True)
class Data:
    train: Split
    val: Split
    test: Split
    spec: DataSpec


def describe(
    name: str,
    facts: DatasetFacts,
    train: Split,
    val: Split,
    test: Split,
    *,
    notes: tuple[str, ...] = (),
    unreadable: tuple[str, ...] = (),
    remember: Callable[[Callable[[], dict[str, Any]]], dict[str, Any]] = lambda compute: compute(),
) -> Data:
    """`remember` may know what would be computed of these splits."""
    found = remember(lambda: look_at_pixels(train, val, test))
    spec = DataSpec(
        name=name,
        num_classes=facts.num_classes,
        class_names=facts.class_names,
        input_channels=facts.input_channels,
        input_size=facts.input_size,
        num_train=len(train),
        num_val=len(val),
        num_test=len(test),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        digest=found["digest"],
        source=facts.source,
        licence=facts.licence,
        notes=notes,
        unreadable=unreadable,
    )
    return Data(train, val, test, spec)


def look_at_pixels(train: Split, val: Split, test: Split) -> dict[str, Any]:
    mean, std = channel_statistics(train.parts())
    return {"mean": mean, "std": std, "digest": digest_of(train, val, test)}


def stratified_order(labels: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Indices; every prefix holds each class in its share, to an image if classes are alike in size."""
    keys = np.random.PCG64(seed).random_raw(len(labels))  # numpy's NEP 19: this stream will never change
    by_class = np.lexsort((keys, labels))
    share = (_ranks(labels[by_class]) + 0.5) / np.bincount(labels)[labels[by_class]]
    return by_class[np.argsort(share, kind="stable")]


def probe_images(data: Data, count: int) -> Tensor:
    """The same test images at every call, uint8 [count, c, h, w]: one of each class, then a second, ..."""
    return data.test.take(probe_rows(data, count))


def probe_rows(data: Data, count: int) -> Tensor:
    """The places of `probe_images` in the test split, int64 [count]."""
    labels = data.test.labels.numpy()
    by_class = np.argsort(labels, kind="stable")
    in_turn = by_class[np.argsort(_ranks(labels[by_class]), kind="stable")]
    return torch.from_numpy(in_turn[:count])


def _ranks(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each entry among those of its class; `labels` are sorted."""
    counts = np.bincount(labels)
    return np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels]


def channel_statistics(images: Tensor | Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 [n, c, h, w] scaled to [0, 1], from exact sums.

    Tensors in parts (`Split.parts`) count as one.
    """
    parts = torch.split(images, 4096) if isinstance(images, Tensor) else images
    histograms = sum(map(_histograms, parts), torch.zeros(1, 256, dtype=torch.int64))
    values = torch.arange(256)
    means: list[float] = []
    deviations: list[float] = []
    for histogram in histograms:
        total, first, second = (int((histogram * values**power).sum()) for power in (0, 1, 2))
        means.append(first / total / 255)
        deviations.append(math.sqrt(second * total - first**2) / total / 255)
    return tuple(means), tuple(deviations)


def _histograms(images: Tensor) -> Tensor:
    """How often each value occurs, int64 [channels, 256]."""
    return torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.unbind(1)])


def digest_of(*splits: Split) -> str:
    """SHA-256 over the shapes, pixels (in the order n, h, w, c), labels and other targets of all splits."""
    digest = hashlib.sha256()
    for split in splits:
        channels, height, width = split.image_shape
        digest.update(repr((len(split), height, width, channels)).encode())
        for part in split.parts():
            digest.update(part.permute(0, 2, 3, 1).contiguous().numpy().data)
        digest.update(split.labels.numpy().data)
        for name, values in sorted(split.targets.items()):
            digest.update(f"{name} {values.dtype} {tuple(values.shape)}".encode())
            digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()

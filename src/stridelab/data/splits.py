"""Images in memory, in their three splits, and what is computed from them."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .spec import DataSpec


@dataclass(frozen=True, eq=False, slots=True)
class Split:
    images: Tensor
    """uint8 [n, channels, height, width], channels last in memory."""
    labels: Tensor
    """int64 [n]."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False, slots=True)
class Data:
    train: Split
    val: Split
    test: Split
    spec: DataSpec


def stratified_order(labels: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    """Indices; every prefix holds each class in its share, to an image if classes are alike in size."""
    keys = np.random.PCG64(seed).random_raw(len(labels))  # numpy's NEP 19: this stream will never change
    by_class = np.lexsort((keys, labels))
    share = (_ranks(labels[by_class]) + 0.5) / np.bincount(labels)[labels[by_class]]
    return by_class[np.argsort(share, kind="stable")]


def probe_images(data: Data, count: int) -> Tensor:
    """The same test images at every call, uint8 [count, c, h, w]: one of each class, then a second, ..."""
    labels = data.test.labels.numpy()
    by_class = np.argsort(labels, kind="stable")
    in_turn = by_class[np.argsort(_ranks(labels[by_class]), kind="stable")]
    return data.test.images[torch.from_numpy(in_turn[:count])]


def _ranks(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Position of each entry among those of its class; `labels` are sorted."""
    counts = np.bincount(labels)
    return np.arange(len(labels)) - (np.cumsum(counts) - counts)[labels]


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 [n, c, h, w] scaled to [0, 1], from exact sums."""
    means: list[float] = []
    deviations: list[float] = []
    values = torch.arange(256)
    for channel in images.unbind(1):
        histogram = torch.zeros(256, dtype=torch.int64)
        for start in range(0, len(channel), 4096):  # in parts: a view of one channel must be copied to be counted
            histogram += torch.bincount(channel[start : start + 4096].flatten(), minlength=256)
        total, first, second = (int((histogram * values**power).sum()) for power in (0, 1, 2))
        means.append(first / total / 255)
        deviations.append(math.sqrt(second * total - first**2) / total / 255)
    return tuple(means), tuple(deviations)


def digest_of(*splits: Split) -> str:
    """SHA-256 over the shapes, pixels (in the order n, h, w, c) and labels of all splits."""
    digest = hashlib.sha256()
    for split in splits:
        pixels = split.images.permute(0, 2, 3, 1).contiguous().numpy()
        digest.update(repr(pixels.shape).encode())
        digest.update(pixels.data)
        digest.update(split.labels.numpy().data)
    return digest.hexdigest()

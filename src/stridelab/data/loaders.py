"""From `data.*` to images: in memory, or read from a cache of decoded files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .facts import Files, ImageFiles
from .files import fetch
from .formats import READERS, Arrays
from .settings import DataConfig
from .splits import Data, Split, described, stratified_order
from .storage import OnDisk, in_memory


def load(
    config: DataConfig, *, checked: bool = False, progress: Callable[[Mapping[str, Any]], None] = lambda event: None
) -> Data:
    """The three splits and their facts; files are found or downloaded, and checked, on the way. Image files are
    decoded into a cache, which `progress` hears of; `checked` says that this cache was read as a whole a moment ago.

    Raises FileNotFoundError when there are none, ValueError naming a file that is damaged.
    """
    if isinstance(config.files, ImageFiles):
        from .image_splits import load_images

        return load_images(config, checked=checked, progress=progress)
    return load_arrays(config, config.files)


def load_arrays(config: DataConfig, files: Files) -> Data:
    arrays = READERS[files.reader](fetch(config), digests=files.digests)
    _check(arrays, config)
    order = stratified_order(arrays.train_labels, seed=config.split_seed)
    val, train = order[: config.num_val], order[config.num_val : config.num_val + config.num_train]
    storage = in_memory(arrays.train_images)
    return described(
        config,
        _part(storage, arrays.train_labels, chosen=train),
        _part(storage, arrays.train_labels, chosen=val),
        Split(in_memory(arrays.test_images), torch.from_numpy(arrays.test_labels)),
    )


def _check(arrays: Arrays, config: DataConfig) -> None:
    """The files are the right ones, so the facts in DATASETS must fit them."""
    facts = config.facts
    shape = (*facts.input_size, facts.input_channels)
    assert arrays.train_images.shape == (facts.num_train, *shape), arrays.train_images.shape
    assert arrays.test_images.shape == (facts.num_test, *shape), arrays.test_images.shape
    for labels, count in ((arrays.train_labels, facts.num_train), (arrays.test_labels, facts.num_test)):
        assert labels.shape == (count,)
        assert 0 <= labels.min() <= labels.max() < facts.num_classes


def _part(storage: Tensor | OnDisk, labels: NDArray[np.int64], *, chosen: NDArray[np.int64]) -> Split:
    rows = np.sort(chosen)
    return Split(storage, torch.from_numpy(labels[rows]), torch.from_numpy(rows))

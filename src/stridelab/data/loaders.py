"""From `data.*` to images in memory."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .files import fetch
from .formats import READERS, Arrays
from .settings import DataConfig
from .spec import DataSpec
from .splits import Data, Split, channel_statistics, digest_of, stratified_order
from .storage import Mapped, in_memory


def load(config: DataConfig) -> Data:
    """The three splits and their facts; files are found or downloaded, and checked, on the way.

    Raises FileNotFoundError when there are none, ValueError naming a file that is damaged.
    """
    facts = config.facts
    arrays = READERS[facts.files.reader](fetch(config), digests=facts.files.digests)
    _check(arrays, config)
    order = stratified_order(arrays.train_labels, seed=config.split_seed)
    val, train = order[: config.num_val], order[config.num_val : config.num_val + config.num_train]
    storage = in_memory(arrays.train_images)
    return _described(
        config,
        train=_part(storage, arrays.train_labels, chosen=train),
        val=_part(storage, arrays.train_labels, chosen=val),
        test=Split(in_memory(arrays.test_images), torch.from_numpy(arrays.test_labels)),
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


def _part(storage: Tensor | Mapped, labels: NDArray[np.int64], *, chosen: NDArray[np.int64]) -> Split:
    rows = np.sort(chosen)
    return Split(storage, torch.from_numpy(labels[rows]), torch.from_numpy(rows))


def _described(config: DataConfig, *, train: Split, val: Split, test: Split) -> Data:
    facts = config.facts
    mean, std = channel_statistics(train.parts())
    spec = DataSpec(
        name=config.name,
        num_classes=facts.num_classes,
        class_names=facts.class_names,
        input_channels=facts.input_channels,
        input_size=facts.input_size,
        num_train=len(train),
        num_val=len(val),
        num_test=len(test),
        mean=mean,
        std=std,
        digest=digest_of(train, val, test),
        source=facts.source,
        licence=facts.licence,
    )
    return Data(train, val, test, spec)

"""The splits of decoded image files, over one storage on disk."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from .cache import Cache, Progress, remembered
from .image_index import Listing
from .ready import ready, unreadable
from .settings import DataConfig
from .splits import Data, Split, described, stratified_order
from .storage import OnDisk

TEST_SEED = 0
"""A test split that is held out is the same whatever data.split_seed is."""
Rows = NDArray[np.int64]


def load_images(config: DataConfig, *, checked: bool, progress: Progress) -> Data:
    listing, cache = ready(config, checked=checked, progress=progress)
    labels = np.array([label for part in listing.parts for label in part.labels], np.int64)
    recipe = cache.recipe
    storage = OnDisk(cache.data, (recipe.count, recipe.height, recipe.width, recipe.channels))
    train, val, test = (
        Split(storage, torch.from_numpy(labels[rows]), torch.from_numpy(rows))
        for rows in rows_of_splits(config, listing, labels, cache)
    )
    return described(
        config,
        train,
        val,
        test,
        unreadable=tuple(unreadable(listing, cache)),
        remember=lambda compute: remembered(cache, key_of(train, val, test), compute),
    )


def rows_of_splits(config: DataConfig, listing: Listing, labels: Rows, cache: Cache) -> tuple[Rows, Rows, Rows]:
    """Rows of train, val and test in the cache, in its order; unreadable images are in none."""
    pool, val, test = published(listing, labels)
    is_readable = np.ones(len(labels), bool)
    is_readable[list(cache.unreadable)] = False
    pool, test = pool[is_readable[pool]], test[is_readable[test]]
    if val is None:
        order = pool[stratified_order(labels[pool], seed=config.split_seed)]
        val, train = order[: config.num_val], order[config.num_val :]
    else:
        val = val[is_readable[val]]
        val = val[stratified_order(labels[val], seed=config.split_seed)][: config.num_val]
        train = pool[stratified_order(labels[pool], seed=config.split_seed)]
    refuse_too_few(config, train, labels, listing)
    return np.sort(train[: config.num_train]), np.sort(val), np.sort(test)


def published(listing: Listing, labels: Rows) -> tuple[Rows, Rows | None, Rows]:
    """Rows of train, val and test as they are on disk; a test split that is not there is held out of train."""
    ends = np.cumsum([len(part) for part in listing.parts])
    train, *others = np.split(np.arange(ends[-1]), ends[:-1])
    if listing.test is None:
        order = stratified_order(labels[train], seed=TEST_SEED)
        held_out = listing.num_held_out
        return np.sort(train[order[held_out:]]), others[0] if others else None, np.sort(train[order[:held_out]])
    return train, others[0] if len(others) == 2 else None, others[-1]


def refuse_too_few(config: DataConfig, train: Rows, labels: Rows, listing: Listing) -> None:
    """Of those that can be read."""
    if config.train_size is not None and len(train) < config.train_size:
        raise ValueError(
            f"data.train_size={config.train_size}: {len(train)} images are left to train on, the others cannot be read."
        )
    absent = set(range(len(listing.class_names))) - set(labels[train].tolist())
    if absent:
        names = ", ".join(repr(listing.class_names[label]) for label in sorted(absent)[:5])
        raise ValueError(f"{listing.folder}: no image is left to train on in {names}.")


def key_of(*splits: Split) -> str:
    digest = hashlib.sha256()
    for split in splits:
        assert split.rows is not None
        digest.update(f"{len(split)}\0".encode() + split.rows.numpy().tobytes())
    return digest.hexdigest()[:16]

"""From `data.*` to images: in memory, or read from a cache of decoded files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .cache import Cache, Progress, cached_facts
from .canvas import read_canvas
from .catalog.facts import ArrayFunction, ImageFiles
from .contents import contents_of
from .decode import decode, unreadable_files
from .files import fetch
from .formats import READERS, ArrayReader, Arrays, FileSet, array_limit, check_arrays
from .image_index import ImageIndex, few
from .settings import DataConfig
from .splits import Data, Split, describe, stratified_order
from .storage import OnDisk, in_memory
from .textures import read_textures

TEST_SEED = 0
"""A test split that is held out is the same whatever data.split_seed is."""
Rows = NDArray[np.int64]
COMPOSERS: dict[str, ArrayReader] = {"canvas": read_canvas, "textures": read_textures}
"""Readers that make images out of those in the files; see `formats.READERS`."""


def load(config: DataConfig, *, checked: bool = False, progress: Progress = lambda event: None) -> Data:
    """The three splits and their facts; files are found or downloaded, and checked, on the way. Image files are
    decoded into a cache; `progress` hears of that, and of what was left out or scaled. `checked` says that this cache
    was read as a whole, and all that said, a moment ago.

    Raises FileNotFoundError when there are none, ValueError naming a file that is damaged.
    """
    data = load_images(config, checked=checked, progress=progress) if is_of_images(config) else load_arrays(config)
    for note in () if checked else data.spec.notes:
        progress({"said": note})
    return data


def is_of_images(config: DataConfig) -> bool:
    return isinstance(config.files, ImageFiles)


def load_arrays(config: DataConfig) -> Data:
    contents = contents_of(config)
    arrays = read_arrays(config)
    check_arrays(arrays, contents.facts, name=config.name)
    labels, test_labels = (some.astype(np.int64) for some in (arrays.train_labels, arrays.test_labels))
    order = stratified_order(labels, seed=config.split_seed)
    val, train = order[: contents.num_val], order[contents.num_val : contents.num_val + contents.num_train]
    storage = in_memory(arrays.train_images)
    return describe(
        config.name,
        contents.facts,
        part(storage, labels, np.sort(train), arrays.train_targets),
        part(storage, labels, np.sort(val), arrays.train_targets),
        Split(in_memory(arrays.test_images), torch.from_numpy(test_labels), targets=tensors(arrays.test_targets)),
    )


def part(
    storage: Tensor | OnDisk, labels: Rows, rows: Rows, targets: Mapping[str, NDArray[Any]] = MappingProxyType({})
) -> Split:
    of_rows = tensors({name: values[rows] for name, values in targets.items()})
    return Split(storage, torch.from_numpy(labels[rows]), torch.from_numpy(rows), of_rows)


def tensors(targets: Mapping[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in targets.items()}


def read_arrays(config: DataConfig) -> Arrays:
    files = config.files
    assert not isinstance(files, ImageFiles)
    if isinstance(files, ArrayFunction):
        pixels_and_labels = files.read()
        arrays: list[Any] = [np.ascontiguousarray(array) for array in pixels_and_labels[:4]]
        return Arrays(*arrays, *pixels_and_labels[4:])
    folder = fetch(config)
    assert folder is not None
    limit = array_limit(contents_of(config).facts)
    return (READERS | COMPOSERS)[files.reader](FileSet(folder, files.digests, limit))


def load_images(config: DataConfig, *, checked: bool, progress: Progress) -> Data:
    index, cache = decode(config, checked=checked, progress=progress)
    labels = np.array([label for part in index.parts for label in part.labels], np.int64)
    recipe = cache.recipe
    storage = OnDisk(cache.data, (recipe.count, recipe.height, recipe.width, recipe.channels))
    train, val, test = (part(storage, labels, rows) for rows in rows_of_splits(config, index, labels, cache))
    notes = (
        *index.notes,
        *cache.notes,
        *absent_classes(index, val, "validation"),
        *absent_classes(index, test, "test"),
    )
    return describe(
        config.name,
        contents_of(config).facts,
        train,
        val,
        test,
        notes=notes,
        unreadable=tuple(unreadable_files(index, cache)),
        remember=lambda compute: cached_facts(cache, key_of(train, val, test), compute),
    )


def rows_of_splits(config: DataConfig, index: ImageIndex, labels: Rows, cache: Cache) -> tuple[Rows, Rows, Rows]:
    """Rows of train, val and test in the cache, in its order; unreadable images are in none."""
    contents = contents_of(config)
    pool, val, test = rows_on_disk(index, labels)
    is_readable = np.ones(len(labels), bool)
    is_readable[list(cache.unreadable)] = False
    pool, test = pool[is_readable[pool]], test[is_readable[test]]
    train = pool[stratified_order(labels[pool], seed=config.split_seed)]
    if val is None:
        val, train = np.split(train, [contents.num_val])
    else:
        val = val[is_readable[val]]
        val = val[stratified_order(labels[val], seed=config.split_seed)][: contents.num_val]
    refuse_too_few(config, index, labels, train=train, val=val, test=test)
    return np.sort(train[: contents.num_train]), np.sort(val), np.sort(test)


def rows_on_disk(index: ImageIndex, labels: Rows) -> tuple[Rows, Rows | None, Rows]:
    """Rows of train, val and test as they are on disk; a test split that is not there is held out of train."""
    ends = np.cumsum([len(part) for part in index.parts])
    train, *others = np.split(np.arange(ends[-1]), ends[:-1])
    if index.test is None:
        order = stratified_order(labels[train], seed=TEST_SEED)
        test, train = np.split(train[order], [index.num_held_out])
        return np.sort(train), others[0] if others else None, np.sort(test)
    return train, others[0] if len(others) == 2 else None, others[-1]


def refuse_too_few(config: DataConfig, index: ImageIndex, labels: Rows, *, train: Rows, val: Rows, test: Rows) -> None:
    """Of those that can be read."""
    if config.train_size is not None and len(train) < config.train_size:
        raise ValueError(
            f"data.train_size={config.train_size}: {len(train)} images are left to train on, the others cannot be read."
        )
    absent = set(range(len(index.class_names))) - set(labels[train].tolist())
    if absent:
        names = few([index.class_names[label] for label in sorted(absent)])
        raise ValueError(f"{index.folder}: no image is left to train on in {names}.")
    for split, rows in (("validation", val), ("test", test)):
        if not len(rows):
            raise ValueError(f"{index.folder}: no image of the {split} split can be read.")


def absent_classes(index: ImageIndex, split: Split, name: str) -> list[str]:
    absent = sorted(set(range(len(index.class_names))) - set(split.labels.tolist()))
    if not absent:
        return []
    classes = few([index.class_names[label] for label in absent])
    return [
        f"{len(absent)} of {len(index.class_names)} classes have no {name} image, and {name} accuracy says nothing of "
        f"them: {classes}"
    ]


def key_of(*splits: Split) -> str:
    digest = hashlib.sha256()
    for split in splits:
        assert split.rows is not None
        digest.update(f"{len(split)}\0".encode() + split.rows.numpy().tobytes())
    return digest.hexdigest()[:16]

"""Image files as their authors publish them -> uint8 arrays; each file is checked against its digest."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .files import on_disk

Digests = Mapping[str, str]
"""File name -> "algorithm:hex" of the unpacked file."""


class Arrays(NamedTuple):
    """Pixels uint8 [n, height, width, channels] and labels int64 [n] of the two published splits."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


def read_idx(folder: Path, *, digests: Digests) -> Arrays:
    """MNIST's format: big-endian magic number (type and rank), sizes, then the bytes."""
    train_images, train_labels, test_images, test_labels = (
        parse_idx(read_file(folder, name, digest=digests[name]))
        for name in (
            "train-images-idx3-ubyte",
            "train-labels-idx1-ubyte",
            "t10k-images-idx3-ubyte",
            "t10k-labels-idx1-ubyte",
        )
    )
    return Arrays(
        train_images[..., None],
        train_labels.astype(np.int64),
        test_images[..., None],
        test_labels.astype(np.int64),
    )


def read_cifar(folder: Path, *, digests: Digests) -> Arrays:
    """CIFAR's "python version": pickled dictionaries of pixels [n, 3 * 32 * 32], planes red, green, blue."""
    names = sorted(name for name in digests if name != "test_batch")
    train = [parse_cifar(read_file(folder, name, digest=digests[name])) for name in names]
    test_images, test_labels = parse_cifar(read_file(folder, "test_batch", digest=digests["test_batch"]))
    return Arrays(
        np.concatenate([images for images, _ in train]),
        np.concatenate([labels for _, labels in train]),
        test_images,
        test_labels,
    )


Reader = Callable[..., Arrays]

READERS: dict[str, Reader] = {"idx": read_idx, "cifar": read_cifar}
"""Called with a folder and `digests=`."""


def read_file(folder: Path, name: str, *, digest: str) -> bytes:
    """Contents of `name` or `name.gz`; ValueError naming the file when they are not what `digest` says."""
    path = on_disk(folder, name)
    assert path is not None, f"{folder / name} was there a moment ago"
    content = path.read_bytes()
    if path.suffix == ".gz":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(_damaged(path, f"it does not unpack ({error})")) from None
    algorithm, _, expected = digest.partition(":")
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if found != expected:
        size = f"its {len(content)} bytes" if path.suffix != ".gz" else f"its {len(content)} unpacked bytes"
        raise ValueError(_damaged(path, f"{size} have {algorithm.upper()} {found}, not {expected}"))
    return content


def _damaged(path: Path, what: str) -> str:
    return f"{path} is truncated or corrupt: {what}. Delete it and run again, or put the original file there."


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """An array of bytes; only type 0x08, unsigned byte, occurs in image sets."""
    assert content[:3] == b"\0\0\x08", "not an IDX file of unsigned bytes"
    rank = content[3]
    shape = np.frombuffer(content, ">i4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def parse_cifar(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    entries = _ArraysOnly(io.BytesIO(content), encoding="latin1").load()
    images = np.asarray(entries["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), np.asarray(entries["labels"], np.int64)


class _ArraysOnly(pickle.Unpickler):
    """Plain values and numpy arrays: the digest is an MD5, too weak to let a file run code on its word."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a CIFAR batch has no use for {module}.{name}")

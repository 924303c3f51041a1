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
"""As in `facts.Files`."""


class Arrays(NamedTuple):
    """Pixels uint8 [n, height, width, channels] and labels int64 [n] of the two published splits."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


def read_idx(folder: Path, *, digests: Digests) -> Arrays:
    """MNIST's format: big-endian magic number (type and rank), sizes, then the bytes."""
    parts = {name.removesuffix(".gz"): parse_idx(read_file(folder, name, digest=digests[name])) for name in digests}
    train_images, train_labels, test_images, test_labels = (
        parts[name]
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
    (test_name,) = (name for name in digests if name.startswith("test"))
    names = sorted(name for name in digests if name != test_name)
    train = [parse_cifar(read_file(folder, name, digest=digests[name])) for name in names]
    test_images, test_labels = parse_cifar(read_file(folder, test_name, digest=digests[test_name]))
    return Arrays(
        np.concatenate([images for images, _ in train]),
        np.concatenate([labels for _, labels in train]),
        test_images,
        test_labels,
    )


def read_svhn(folder: Path, *, digests: Digests) -> Arrays:
    """SVHN's "format 2": one MATLAB 5 file a split."""
    train, test = (
        parse_svhn(read_file(folder, name, digest=digests[name])) for name in ("train_32x32.mat", "test_32x32.mat")
    )
    return Arrays(*train, *test)


def read_stl10(folder: Path, *, digests: Digests) -> Arrays:
    """STL-10's "binary files": bytes without a header; the labels count from 1."""
    train_images, train_labels, test_images, test_labels = (
        np.frombuffer(read_file(folder, name, digest=digests[name]), np.uint8)
        for name in ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
    )
    return Arrays(
        from_columns(train_images),
        train_labels.astype(np.int64) - 1,
        from_columns(test_images),
        test_labels.astype(np.int64) - 1,
    )


Reader = Callable[..., Arrays]

READERS: dict[str, Reader] = {"idx": read_idx, "cifar": read_cifar, "svhn": read_svhn, "stl10": read_stl10}
"""Called with a folder and `digests=`."""


def read_file(folder: Path, name: str, *, digest: str) -> bytes:
    """Contents of `name`, unpacked; ValueError naming the file when they are not what `digest` says."""
    path = on_disk(folder, name)
    assert path is not None, f"{folder / name} was there a moment ago"
    as_published = path.name == name
    content = path.read_bytes() if as_published else unpacked(path, path.read_bytes())
    algorithm, _, expected = digest.partition(":")
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if found != expected:
        size = f"its {len(content)} bytes" if as_published else f"its {len(content)} unpacked bytes"
        raise ValueError(_damaged(path, f"{size} have {algorithm.upper()} {found}, not {expected}"))
    return unpacked(path, content) if name.endswith(".gz") else content


def unpacked(path: Path, content: bytes) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(_damaged(path, f"it does not unpack ({error})")) from None


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
    labels = entries["fine_labels" if "fine_labels" in entries else "labels"]
    return np.ascontiguousarray(images), np.asarray(labels, np.int64)


def parse_svhn(content: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """X [32, 32, 3, n] and y [n, 1], in which 10 stands for the digit 0."""
    from scipy.io import loadmat  # a quarter of a second that no other format needs

    entries = loadmat(io.BytesIO(content), variable_names=("X", "y"))  # type: ignore[arg-type]  # a file is as good
    images = np.asarray(entries["X"], np.uint8).transpose(3, 0, 1, 2)
    return np.ascontiguousarray(images), entries["y"].ravel().astype(np.int64) % 10


def from_columns(pixels: NDArray[np.uint8], *, side: int = 96) -> NDArray[np.uint8]:
    """Planes red, green, blue of each image, each column by column."""
    return np.ascontiguousarray(pixels.reshape(-1, 3, side, side).transpose(0, 3, 2, 1))


class _ArraysOnly(pickle.Unpickler):
    """Plain values and numpy arrays: the digest is an MD5, too weak to let a file run code on its word."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a CIFAR batch has no use for {module}.{name}")

"""Arrays as their authors publish them -> uint8 arrays; each file is checked against its digest."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .catalog.arrays import ANIMALS_TEST_EVERY
from .catalog.facts import DatasetFacts
from .files import on_disk

MAX_BYTES = 4 << 30
PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class FileSet:
    """The files of a data set where they were found; each is checked when it is read."""

    folder: Path
    digests: Mapping[str, str]
    """As in `catalog.facts.Files`."""
    max_bytes: int = MAX_BYTES
    """What none of them, unpacked, may exceed."""

    def read(self, name: str) -> bytes:
        return read_file(self.folder, name, digest=self.digests[name], max_bytes=self.max_bytes)


class Arrays(NamedTuple):
    """Pixels uint8 [n, height, width, channels] and labels, integers [n], of the two published splits."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.integer]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.integer]
    train_targets: Mapping[str, NDArray[Any]] = {}
    """What `DatasetFacts.targets` names, [n, ...] each."""
    test_targets: Mapping[str, NDArray[Any]] = {}


def read_idx(files: FileSet) -> Arrays:
    """MNIST's format: big-endian magic number (type and rank), sizes, then the bytes."""
    parts = {name.removesuffix(".gz"): parse_idx(files.read(name)) for name in files.digests}
    (train_images, train_labels), (test_images, test_labels) = (
        (parts[f"{split}-images-idx3-ubyte"], parts[f"{split}-labels-idx1-ubyte"]) for split in ("train", "t10k")
    )
    return Arrays(
        train_images[..., None],
        train_labels.astype(np.int64),
        test_images[..., None],
        test_labels.astype(np.int64),
    )


def read_cifar(files: FileSet) -> Arrays:
    """CIFAR's "python version": pickled dictionaries of pixels [n, 3 * 32 * 32], planes red, green, blue."""
    (test_name,) = (name for name in files.digests if name.startswith("test"))
    names = sorted(name for name in files.digests if name != test_name)
    train = [parse_cifar(files.read(name)) for name in names]
    test_images, test_labels = parse_cifar(files.read(test_name))
    return Arrays(
        np.concatenate([images for images, _ in train]),
        np.concatenate([labels for _, labels in train]),
        test_images,
        test_labels,
    )


def read_svhn(files: FileSet) -> Arrays:
    """SVHN's "format 2": one MATLAB 5 file a split."""
    train, test = (parse_svhn(files.read(f"{split}_32x32.mat")) for split in ("train", "test"))
    return Arrays(*train, *test)


def read_stl10(files: FileSet) -> Arrays:
    """STL-10's "binary files": bytes without a header; the labels count from 1."""
    train_images, train_labels, test_images, test_labels = (
        np.frombuffer(files.read(name), np.uint8) for name in ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
    )
    return Arrays(
        from_columns(train_images),
        train_labels.astype(np.int64) - 1,
        from_columns(test_images),
        test_labels.astype(np.int64) - 1,
    )


def read_animals(files: FileSet) -> Arrays:
    """animal-mnist's pickled arrays, pixels [n, 28, 28] and labels [n]; of equal pictures the first stays. Every
    `ANIMALS_TEST_EVERY`th of the others is a test image."""
    images, labels = (
        _ArraysOnly(io.BytesIO(files.read(name))).load()
        for name in ("animal_data_version_3.gz", "animal_label_version_3.gz")
    )
    first = np.sort(np.unique(images.reshape(len(images), -1), axis=0, return_index=True)[1])
    is_test = np.arange(len(first)) % ANIMALS_TEST_EVERY == ANIMALS_TEST_EVERY - 1
    train, test = first[~is_test], first[is_test]
    return Arrays(images[train][..., None], labels[train], images[test][..., None], labels[test])


ArrayReader = Callable[[FileSet], Arrays]

READERS: dict[str, ArrayReader] = {
    "idx": read_idx,
    "cifar": read_cifar,
    "svhn": read_svhn,
    "stl10": read_stl10,
    "animals": read_animals,
}


def array_limit(facts: DatasetFacts) -> int:
    """Bytes that no file of such a set exceeds, unpacked: all its images, 8 bytes a label, a MiB of headers."""
    image_bytes = facts.input_size[0] * facts.input_size[1] * facts.input_channels
    return (facts.num_train + facts.num_test) * (image_bytes + 8) + (1 << 20)


def check_arrays(arrays: Arrays, facts: DatasetFacts, *, name: str) -> None:
    """ValueError unless they are what the facts in DATASETS say."""
    shape = (*facts.input_size, facts.input_channels)
    splits = (
        ("training", arrays.train_images, arrays.train_labels, facts.num_train),
        ("test", arrays.test_images, arrays.test_labels, facts.num_test),
    )
    for split, images, labels, count in splits:
        if images.dtype != np.uint8 or images.shape != (count, *shape):
            raise ValueError(
                f"data.name={name}: its {split} images are {images.dtype} {list(images.shape)}, not uint8 "
                f"{[count, *shape]} as DATASETS says: number, height, width, channels."
            )
        if labels.shape != (count,) or labels.dtype.kind not in "iu":
            raise ValueError(
                f"data.name={name}: its {split} labels are {labels.dtype} {list(labels.shape)}, not {count} integers."
            )
        if labels.min() < 0 or labels.max() >= facts.num_classes:
            raise ValueError(
                f"data.name={name}: its {split} labels go from {labels.min()} to {labels.max()}; with "
                f"{facts.num_classes} classes they must be from 0 to {facts.num_classes - 1}."
            )


def read_file(folder: Path, name: str, *, digest: str, max_bytes: int = MAX_BYTES) -> bytes:
    """Contents of `name`, unpacked; ValueError naming the file when they are not what `digest` says. Never more than
    `max_bytes` are held, whatever a file unpacks to."""
    path = on_disk(folder, name)
    assert path is not None, f"{folder / name} was there a moment ago"
    as_published = path.name == name
    try:
        with path.open("rb") if as_published else gzip.open(path) as file:
            content = bounded(path, file, max_bytes)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    algorithm, _, expected = digest.partition(":")
    found = hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
    if found != expected:
        size = f"its {len(content)} bytes" if as_published else f"its {len(content)} unpacked bytes"
        raise ValueError(_damaged(path, f"{size} have {algorithm.upper()} {found}, not {expected}"))
    return bounded(path, gzip.GzipFile(fileobj=io.BytesIO(content)), max_bytes) if name.endswith(".gz") else content


def bounded(path: Path, file: BinaryIO | BufferedIOBase, max_bytes: int) -> bytes:
    """All of it, a piece at a time."""
    content = bytearray()
    try:
        while piece := file.read(PIECE_BYTES):
            content += piece
            if len(content) > max_bytes:
                raise ValueError(_damaged(path, f"it holds more than the {max_bytes:,} bytes of any file of this set"))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(_damaged(path, f"it does not unpack ({error})")) from None
    return bytes(content)


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


def from_columns(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Planes red, green, blue of each image, each column by column."""
    return np.ascontiguousarray(pixels.reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1))


class _ArraysOnly(pickle.Unpickler):
    """Plain values and numpy arrays: the digest is an MD5, too weak to let a file run code on its word."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a file of arrays has no use for {module}.{name}")

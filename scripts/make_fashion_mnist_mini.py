"""Make the embedded data set from Fashion-MNIST: 800 training and 200 test images of each class.

    python scripts/make_fashion_mnist_mini.py [source=FOLDER] [target=FOLDER]

`source` holds the four files of Fashion-MNIST (default: where Debian's package dataset-fashion-mnist puts
them), `target` gets four files of the same format (default: this package's). Prints the digests for DATASETS.
"""

from __future__ import annotations

import gzip
import hashlib
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stridelab.data.catalog import DATASETS
from stridelab.data.catalog.arrays import DEBIAN_FASHION_MNIST, EMBEDDED
from stridelab.data.formats import FileSet, read_idx
from stridelab.data.splits import stratified_order

SEED = 0
NUM_TRAIN, NUM_TEST = 8_000, 2_000


def main(arguments: list[str]) -> None:
    chosen = {"source": str(DEBIAN_FASHION_MNIST), "target": str(EMBEDDED)}
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key not in chosen or not value:
            raise SystemExit(f"{argument} is not understood; keys: source=FOLDER target=FOLDER.")
        chosen[key] = value
    for name, digest in make(Path(chosen["source"]), target=Path(chosen["target"])).items():
        print(f'"{name}": "{digest}",')


def make(source: Path, *, target: Path) -> dict[str, str]:
    """Write the four files; their digests as DATASETS has them."""
    full = read_idx(FileSet(source, DATASETS["fashion_mnist"].files.digests))
    train = np.sort(stratified_order(full.train_labels, seed=SEED)[:NUM_TRAIN])
    test = np.sort(stratified_order(full.test_labels, seed=SEED)[:NUM_TEST])
    contents = {
        "train-images-idx3-ubyte": idx(full.train_images[train, :, :, 0]),
        "train-labels-idx1-ubyte": idx(full.train_labels[train]),
        "t10k-images-idx3-ubyte": idx(full.test_images[test, :, :, 0]),
        "t10k-labels-idx1-ubyte": idx(full.test_labels[test]),
    }
    target.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_gzip(target / f"{name}.gz", content)
    return {name: f"sha256:{hashlib.sha256(content).hexdigest()}" for name, content in contents.items()}


def idx(array: NDArray[np.integer]) -> bytes:
    """MNIST's format: 0, 0, type 8 (unsigned byte), rank, big-endian sizes, the bytes."""
    sizes = np.array(array.shape, ">i4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def write_gzip(path: Path, content: bytes) -> None:
    """No time and no name in the header: from one version of zlib, equal contents give equal files."""
    with path.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as packed:
        packed.write(content)


if __name__ == "__main__":
    main(sys.argv[1:])

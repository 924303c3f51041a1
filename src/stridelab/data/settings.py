"""The keys `data.*`; no file is read here. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stridelab.names import NO_EFFECT
from stridelab.text import parts

from .catalog import facts_of
from .catalog.facts import ArrayFunction, DatasetFacts, Files, ImageFiles
from .catalog.user import USER_DATASETS, find_dataset

MAX_SIZE = 2048
CORRUPT = ("refuse", "skip")


@dataclass(frozen=True)
class DataConfig:
    name: str = "fashion_mnist_mini"
    """Which data set; the group data= chooses it."""
    root: str = field(default="data", metadata=NO_EFFECT)
    """Folder that is looked in for the files of the set, and that a download goes to."""
    train_size: int | None = None
    """Images to train on, each class in its share; smaller ones are parts of larger ones. null: all."""
    val_size: int | None = None
    """Images of the train split held out for validation, whatever train_size is. null: a tenth of it. Of a set with a
    validation split of its own: how many of that, null for all."""
    split_seed: int = 0
    """Chooses the validation and training images; apart from `seed`, so that all runs see the same ones."""
    download: bool = field(default=True, metadata=NO_EFFECT)
    """Whether to download the files when they are nowhere on this machine."""

    size: Any = None
    """Pixels that image files are scaled to cover, their centre cut out: an int or [height, width]. null: 64."""
    channels: int | None = None
    """Image files are read as colour (3) or grey (1). null: 3."""
    corrupt: str = field(default="refuse", metadata=NO_EFFECT)  # what was left out shows in the data's digest
    """What to do with image files that cannot be read. refuse: train nothing, and name them. skip: leave them out, and
    record it."""
    cache_dir: str | None = field(default=None, metadata=NO_EFFECT)
    """Folder for decoded image files. null: stridelab/ in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""

    def __post_init__(self) -> None:
        facts_of(self.name)
        if not self.root.strip():
            raise ValueError("data.root='' must name a folder, such as data or ~/datasets.")
        if not 0 <= self.split_seed < 2**63:
            raise ValueError(f"data.split_seed={self.split_seed} must be an integer from 0 to 2**63 - 1.")
        if self.corrupt not in CORRUPT:
            raise ValueError(f"data.corrupt={self.corrupt!r} must be one of {', '.join(CORRUPT)}.")
        if self.cache_dir is not None and not self.cache_dir.strip():
            raise ValueError("data.cache_dir='' must name a folder, or be null.")
        self._settle_shape()
        if not self.is_own_folder:
            split_sizes(self, facts_of(self.name))

    def __getstate__(self) -> dict[str, Any]:
        own = USER_DATASETS.get(self.name)
        return vars(self) | {"source": own and own.source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Another process finds the user's data set in the same source."""
        source = state.pop("source")
        if source is not None and not find_dataset(state["name"]):
            source.load()
        vars(self).update(state)

    def _settle_shape(self) -> None:
        """What null stands for is written out, so that a record says it."""
        row = facts_of(self.name)
        if not isinstance(row.files, ImageFiles):
            for key in ("size", "channels"):
                if getattr(self, key) is not None:
                    height, width = row.input_size
                    raise ValueError(
                        f"data.{key}={getattr(self, key)} is for sets of image files: the images of {self.name} are "
                        f"{height}x{width} with {row.input_channels} channel(s) as they are."
                    )
            return
        object.__setattr__(self, "size", row.input_size if self.size is None else parse_size(self.size))
        object.__setattr__(self, "channels", 3 if self.channels is None else self.channels)
        if self.channels not in (1, 3):
            raise ValueError(f"data.channels={self.channels} must be 1 (grey) or 3 (RGB), or null for 3.")

    @property
    def files(self) -> Files | ImageFiles | ArrayFunction:
        return facts_of(self.name).files

    @property
    def is_own_folder(self) -> bool:
        """Whether the classes and counts are those of the user's folder, not of a published set."""
        return isinstance(self.files, ImageFiles) and not facts_of(self.name).class_names

    @property
    def folder(self) -> Path:
        """Where under data.root the files belong."""
        assert not isinstance(self.files, ArrayFunction)
        assert self.files.folder is not None
        return Path(self.root).expanduser() / self.files.folder


def split_sizes(config: DataConfig, facts: DatasetFacts) -> tuple[int, int]:
    """How many images `config` takes for training and for validation of a set of these facts. ValueError for sizes that
    the set does not have."""
    total, classes, published = facts.num_train, facts.num_classes, facts.num_val
    num_val = config.val_size
    if num_val is None:
        num_val = max(total // 10, classes) if published is None else published
    pool, of_pool = (total, "train") if published is None else (published, "validation")
    most = total - classes if published is None else published
    if not classes <= num_val <= most:
        raise ValueError(
            f"data.val_size={num_val} must be an integer from {classes} (one a class) to {most}: the "
            f"{of_pool} split of {config.name} has {pool} images. null takes "
            f"{'a tenth' if published is None else 'all'}."
        )
    available = total - (num_val if published is None else 0)
    num_train = available if config.train_size is None else config.train_size
    if not classes <= num_train <= available:
        of_these = (
            f"of the {total} images in the train split of {config.name}, {num_val} (data.val_size) are held "
            "out for validation"
            if available < total
            else f"the train split of {config.name} has {total} images"
        )
        raise ValueError(
            f"data.train_size={num_train} must be an integer from {classes} (one a class) to "
            f"{available}: {of_these}. null takes all {available}."
        )
    return num_train, num_val


def parse_size(value: object) -> tuple[int, int]:
    """An int, [height, width] or the text 48x64, as (height, width)."""
    value = parts(value, "x")
    pair = (value, value) if isinstance(value, int) else value
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(is_size(side) for side in pair):
        raise ValueError(f"data.size={value} must be an integer from 1 to {MAX_SIZE}, or two of them: [height, width].")
    return pair[0], pair[1]


def is_size(side: object) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= MAX_SIZE

"""The keys `data.*`. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from stridelab.names import NO_EFFECT
from stridelab.text import parts

from .facts import Files, ImageFiles
from .image_index import Listing, listing_of
from .spec import DATASETS, DatasetFacts

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
    """Of image files, in pixels: an int or [height, width]; scaled to cover it, and the centre cut out. null: 64."""
    channels: int | None = None
    """Of image files: 3 (RGB) or 1 (grey). null: 3."""
    corrupt: str = field(default="refuse", metadata=NO_EFFECT)  # what was left out shows in the data's digest
    """Image files that cannot be read. refuse: train nothing, and name them. skip: leave them out, and record it."""
    cache_dir: str | None = field(default=None, metadata=NO_EFFECT)
    """Folder for decoded image files. null: stridelab/ in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""

    def __post_init__(self) -> None:
        if self.name not in DATASETS:
            choices = ", ".join(DATASETS)
            raise ValueError(f"data.name={self.name!r} is not a data set; choose one of {choices}.")
        if not self.root.strip():
            raise ValueError("data.root='' must name a folder, such as data or ~/datasets.")
        if not 0 <= self.split_seed < 2**63:
            raise ValueError(f"data.split_seed={self.split_seed} must be an integer from 0 to 2**63 - 1.")
        if self.corrupt not in CORRUPT:
            raise ValueError(f"data.corrupt={self.corrupt!r} must be one of {', '.join(CORRUPT)}.")
        if self.cache_dir is not None and not self.cache_dir.strip():
            raise ValueError("data.cache_dir='' must name a folder, or be null.")
        self._settle_shape()
        if not self.is_listed:
            self.check()

    def _settle_shape(self) -> None:
        """What null stands for is written out, so that a record says it."""
        row = DATASETS[self.name]
        if isinstance(row.files, Files):
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

    def check(self) -> None:
        """ValueError for sizes that the set does not have. For a folder of images, it looks into the folder; that
        is why it is asked for apart from the making of a config, which may come from another machine."""
        facts = self.facts
        total, classes = facts.num_train, facts.num_classes
        pool, of_pool = (total, "train") if facts.num_val is None else (facts.num_val, "validation")
        most = pool - classes if facts.num_val is None else pool
        if not classes <= self.num_val <= most:
            raise ValueError(
                f"data.val_size={self.num_val} must be an integer from {classes} (one a class) to {most}: the "
                f"{of_pool} split of {self.name} has {pool} images. null takes "
                f"{'a tenth' if facts.num_val is None else 'all'}."
            )
        available = total - (self.num_val if facts.num_val is None else 0)
        if not classes <= self.num_train <= available:
            of_these = (
                f"of the {total} images in the train split of {self.name}, {self.num_val} (data.val_size) are held "
                "out for validation"
                if available < total
                else f"the train split of {self.name} has {total} images"
            )
            raise ValueError(
                f"data.train_size={self.num_train} must be an integer from {classes} (one a class) to "
                f"{available}: {of_these}. null takes all {available}."
            )

    @property
    def files(self) -> Files | ImageFiles:
        return DATASETS[self.name].files

    @property
    def is_listed(self) -> bool:
        """Whether what is known of the set is found in its folder."""
        return not DATASETS[self.name].class_names

    @property
    def folder(self) -> Path:
        """Where under data.root the files belong."""
        assert self.files.folder is not None
        return Path(self.root).expanduser() / self.files.folder

    @property
    def listing(self) -> Listing:
        return listing_of(DATASETS[self.name], self.folder)

    @property
    def facts(self) -> DatasetFacts:
        if isinstance(self.files, Files):
            return DATASETS[self.name]
        assert self.channels is not None
        row = replace(DATASETS[self.name], input_size=self.size, input_channels=self.channels)
        return with_counts(row, self.listing) if self.is_listed else row

    @property
    def num_val(self) -> int:
        if self.val_size is not None:
            return self.val_size
        facts = self.facts
        return max(facts.num_train // 10, facts.num_classes) if facts.num_val is None else facts.num_val

    @property
    def num_train(self) -> int:
        if self.train_size is not None:
            return self.train_size
        facts = self.facts
        return facts.num_train - (self.num_val if facts.num_val is None else 0)


def with_counts(row: DatasetFacts, listing: Listing) -> DatasetFacts:
    return replace(
        row,
        class_names=listing.class_names,
        num_train=len(listing.train) - listing.num_held_out,
        num_val=None if listing.val is None else len(listing.val),
        num_test=listing.num_held_out if listing.test is None else len(listing.test),
    )


def parse_size(value: object) -> tuple[int, int]:
    """An int, [height, width] or the text 48x64, as (height, width)."""
    value = parts(value, "x")
    pair = (value, value) if isinstance(value, int) else value
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(is_size(side) for side in pair):
        raise ValueError(f"data.size={value} must be an integer from 1 to {MAX_SIZE}, or two of them: [height, width].")
    return pair[0], pair[1]


def is_size(side: object) -> bool:
    return isinstance(side, int) and not isinstance(side, bool) and 1 <= side <= MAX_SIZE

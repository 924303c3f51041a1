"""The keys `data.*`. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from .spec import DATASETS, DatasetFacts


@dataclass(frozen=True)
class DataConfig:
    name: str = "fashion_mnist_mini"
    """Which data set; the group data= chooses it."""
    root: str = "data"
    """Folder that is looked in for the files of the set, and that a download goes to."""
    train_size: int | None = None
    """Images to train on, each class in its share; smaller ones are parts of larger ones. null: all."""
    val_size: int | None = None
    """Images of the train split held out for validation, whatever train_size is. null: a tenth of it."""
    split_seed: int = 0
    """Chooses the validation and training images; apart from `seed`, so that all runs see the same ones."""
    download: bool = True
    """Whether to download the files when they are nowhere on this machine."""

    def __post_init__(self) -> None:
        if self.name not in DATASETS:
            choices = ", ".join(DATASETS)
            raise ValueError(f"data.name={self.name!r} is not a data set; choose one of {choices}.")
        if not self.root.strip():
            raise ValueError("data.root='' must name a folder, such as data or ~/datasets.")
        if not 0 <= self.split_seed < 2**63:
            raise ValueError(f"data.split_seed={self.split_seed} must be an integer from 0 to 2**63 - 1.")
        total, classes = self.facts.num_train, self.facts.num_classes
        if not classes <= self.num_val <= total - classes:
            raise ValueError(
                f"data.val_size={self.val_size} must be an integer from {classes} (one a class) to "
                f"{total - classes}: the train split of {self.name} has {total} images. null takes a tenth."
            )
        available = total - self.num_val
        if not classes <= self.num_train <= available:
            raise ValueError(
                f"data.train_size={self.train_size} must be an integer from {classes} (one a class) to "
                f"{available}: of the {total} images in the train split of {self.name}, {self.num_val} "
                f"(data.val_size) are held out for validation. null takes all {available}."
            )

    @property
    def facts(self) -> DatasetFacts:
        return DATASETS[self.name]

    @property
    def num_val(self) -> int:
        return self.facts.num_train // 10 if self.val_size is None else self.val_size

    @property
    def num_train(self) -> int:
        return self.facts.num_train - self.num_val if self.train_size is None else self.train_size

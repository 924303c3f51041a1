"""Which data sets there are, and what one that was loaded is. No torch here."""

from __future__ import annotations

from dataclasses import dataclass

from .facts import DatasetFacts, Files, ImageFiles
from .sets.arrays import ARRAY_SETS, DEBIAN_FASHION_MNIST, EMBEDDED
from .sets.images import IMAGE_SETS

__all__ = ["DATASETS", "DEBIAN_FASHION_MNIST", "EMBEDDED", "DataSpec", "DatasetFacts", "Files", "ImageFiles"]

DATASETS: dict[str, DatasetFacts] = {**ARRAY_SETS, **IMAGE_SETS}
"""What `data.name` may be. A new set is a row in `data/sets`; a new file format, a function in `formats.READERS`."""


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
    unreadable: tuple[str, ...] = ()
    """Image files that were left out, with the reason of each."""

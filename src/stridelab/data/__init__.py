"""Data sets by name -> images in memory, splits, facts, batches."""

from .settings import DataConfig
from .spec import DATASETS, DatasetFacts, DataSpec

__all__ = ["DATASETS", "DataConfig", "DataSpec", "DatasetFacts"]

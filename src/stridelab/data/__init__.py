"""Data sets by name -> images in memory, splits, facts, batches."""

from .catalog import DATASETS
from .catalog.facts import DatasetFacts, DataSpec
from .settings import DataConfig

__all__ = ["DATASETS", "DataConfig", "DataSpec", "DatasetFacts"]

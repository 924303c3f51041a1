"""Data sets by name -> images in memory, splits, facts, batches (each imported on first use)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .settings import DataConfig
from .spec import DATASETS, DatasetFacts, DataSpec

if TYPE_CHECKING:
    from .batches import Batches
    from .files import fetch, missing
    from .loaders import load
    from .splits import Data, Split, probe_images

__all__ = [
    "DATASETS",
    "Batches",
    "Data",
    "DataConfig",
    "DataSpec",
    "DatasetFacts",
    "Split",
    "fetch",
    "load",
    "missing",
    "probe_images",
]

_LATER = {
    "Batches": ".batches",
    "fetch": ".files",
    "load": ".loaders",
    "missing": ".files",
    "Data": ".splits",
    "Split": ".splits",
    "probe_images": ".splits",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

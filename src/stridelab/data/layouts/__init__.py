"""How splits and classes are found among files of images: a function a layout, folder -> index. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..image_index import ImageIndex
from .flowers import index_flowers
from .folders import index_folders
from .pets import index_pets

LAYOUTS: dict[str, Callable[[Path], ImageIndex]] = {
    "folders": index_folders,
    "pets": index_pets,
    "flowers": index_flowers,
}
"""What `ImageFiles.layout` may be; each raises ValueError when a folder is not laid out so."""

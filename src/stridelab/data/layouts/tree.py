"""Folders and image files below a folder, and what is passed over on the way."""

from __future__ import annotations

import os
import re
from enum import Enum, auto
from pathlib import Path

NO_CLASSES = {
    *("lost+found", "system volume information", "network trash folder", "temporary items", "dfsrprivate"),
    *("ipod photo cache", "_vti_cnf"),
}
"""Folders, in lower case, that systems make by themselves: thumbnails, resource forks, bins; besides those whose names
begin as no class's does (@eaDir, #recycle, $RECYCLE.BIN, __MACOSX) and Lightroom's previews."""
NO_CLASS = re.compile(r"[@#$]|__|found\.\d+$|.*\.lrdata$")
THUMBNAILS = {"thumbs", "thumbnails", "_thumbs", "_thumbnails"}
"""Left out below the folder of a class; a class itself may be called so."""
PLUGINS = dict.fromkeys((".heic", ".heif", ".hif"), "pillow-heif")
"""Suffix -> package with which Pillow reads such files."""


class Tree:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.omitted: set[tuple[str, str]] = set()
        """(what, path) of all that was passed over."""

    def folders(self, inside: str = "") -> list[str]:
        """Names of the folders in `inside`, in order."""
        return [entry.name for entry in self._entries(inside) if kind_of(entry) is Kind.FOLDER]

    def omit_loose_files(self, inside: str = "") -> None:
        """Files beside the folders of classes."""
        for entry in self._entries(inside):
            path = f"{inside}/{entry.name}" if inside else entry.name
            if kind_of(entry) is not Kind.FOLDER:
                self.omitted.add(("image files outside the folders of classes" if is_image(path) else kind(path), path))

    def images(self, inside: str) -> list[str]:
        """Paths of the images under `inside`, links followed: those of each folder by name, the folders by path."""
        found: list[str] = []
        waiting = [inside]
        seen: dict[tuple[int, int], str] = {}
        while waiting:
            here = waiting.pop()
            self._refuse_twice(seen, here)
            below: list[str] = []
            for entry in self._entries(here, is_class=True):
                path, what = f"{here}/{entry.name}", kind_of(entry)
                if what is Kind.FOLDER:
                    below.append(path)
                elif what is Kind.FILE and is_image(path):
                    found.append(path)
                else:
                    self.omitted.add((kind(path) if what is Kind.FILE else "pipes, sockets or devices", path))
            waiting += reversed(below)
        return found

    def _refuse_twice(self, seen: dict[tuple[int, int], str], here: str) -> None:
        state = (self.folder / here).stat()
        at = seen.setdefault((state.st_dev, state.st_ino), here)
        if at != here:
            raise ValueError(f"{self.folder / here} leads to {self.folder / at} again: its images would count twice.")

    def _entries(self, inside: str, *, is_class: bool = False) -> list[os.DirEntry[str]]:
        """What is in a folder, by name, without what is hidden or a system's own."""
        try:
            with os.scandir(self.folder / inside) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            place = self.folder / inside
            raise ValueError(f"data.root: the folder {place} cannot be read: {error.strerror}.") from None
        kept = []
        for entry in entries:
            reason = aside(entry, is_class=is_class)
            if reason is None:
                kept.append(entry)
            else:
                self.omitted.add((reason, f"{inside}/{entry.name}" if inside else entry.name))
        return kept


def aside(entry: os.DirEntry[str], *, is_class: bool) -> str | None:
    """What it is that is never looked at; None: it is."""
    is_folder = kind_of(entry) is Kind.FOLDER
    if entry.name.startswith("."):
        return "hidden folders" if is_folder else "hidden files"
    name = entry.name.lower()
    if is_folder and (NO_CLASS.match(name) or name in NO_CLASSES or (is_class and name in THUMBNAILS)):
        return f"folders {entry.name}"
    return None


def is_image(path: str) -> bool:
    from ..images import suffixes

    return suffix_of(path) in suffixes()


def suffix_of(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - a Path for each of a million names is slow


def kind(path: str) -> str:
    """What a file is called that is no image by its suffix."""
    suffix = suffix_of(path)
    if suffix in PLUGINS:
        return f"files {suffix} (pip install {PLUGINS[suffix]} to read them)"
    return f"files {suffix}" if suffix else "files without a suffix"


class Kind(Enum):
    FOLDER = auto()
    FILE = auto()
    """Broken links too: they are named when they cannot be read."""
    SPECIAL = auto()
    """Pipes, sockets and devices: reading one may never end."""


def kind_of(entry: os.DirEntry[str]) -> Kind:
    """Of what a link leads to."""
    try:
        if entry.is_dir():
            return Kind.FOLDER
        is_broken = entry.is_symlink() and not Path(entry).exists()
        return Kind.FILE if is_broken or entry.is_file() else Kind.SPECIAL
    except OSError:  # a link that leads to itself
        return Kind.FILE

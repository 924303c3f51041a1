"""Classes by folder, as torchvision's ImageFolder has them. No torch here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from pathlib import Path

from .image_index import Listing, Part, few


def folders(folder: Path) -> Listing:
    """Classes by folder, in `train/` beside `test/` or `val/`, or in `folder` itself."""
    inside = subfolders(folder)
    if "train" not in inside or not is_split_layout(folder, inside):
        refuse_splits_of_other_names(folder, inside)
        train, others = of_classes(folder, class_names := tuple(sorted(inside)))
        return complete(Listing(folder, class_names, train, None, None, others))
    class_names = tuple(sorted(subfolders(folder / "train")))
    parts: dict[str, Part] = {}
    num_others = 0
    for split in sorted(inside):
        refuse_other_classes(folder / split, class_names)
        parts[split], others = of_classes(folder, class_names, within=f"{split}/")
        num_others += others
    if "test" not in parts and "val" in parts:  # the layout of ImageNet, whose labelled test images are val/
        parts["test"] = parts.pop("val")
    return complete(Listing(folder, class_names, parts["train"], parts.get("val"), parts.get("test"), num_others))


def is_split_layout(folder: Path, inside: Iterable[str]) -> bool:
    """Whether `train/` is a split; a class of that name has images in it and no folders of classes."""
    has_folders = bool(subfolders(folder / "train"))
    strangers = sorted(set(inside) - {"train", "val", "test"})
    if has_folders and strangers:
        raise ValueError(
            f"data.root={folder} has train/ with folders in it, and {few(strangers)} beside it: give a folder with "
            "train/, test/ and val/ alone, or one with a folder for each class."
        )
    return has_folders


def refuse_splits_of_other_names(folder: Path, inside: Sequence[str]) -> None:
    """Such as training/ and validation/, which would pass for two classes."""
    below = {frozenset(subfolders(folder / name)) for name in inside}
    if len(inside) > 1 and len(below) == 1 and below != {frozenset()}:
        raise ValueError(
            f"data.root={folder}: {few(sorted(inside))} have the same folders in them. If they are splits, call them "
            "train/, test/ and val/, train/ at least; the folders of classes are in those."
        )


def refuse_other_classes(folder: Path, class_names: Sequence[str]) -> None:
    strangers = sorted(set(subfolders(folder)) - set(class_names))
    if strangers:
        raise ValueError(f"{folder} has {few(strangers)}, for which there is no folder in train/.")


def complete(listing: Listing) -> Listing:
    """ValueError unless there are images of two classes or more to train on."""
    folder, class_names = listing.folder, listing.class_names
    if len(class_names) < 2:
        found = f"one folder, {class_names[0]!r}" if class_names else "no folders"
        raise ValueError(
            f"data.root={folder} has {found}: at least two are needed, one for each class, in it or in its train/. "
            f"{'Is data.root one folder too high?' if class_names else 'Which images are of which class?'}"
        )
    unprintable = [name for name in class_names if not name.isprintable()]
    if unprintable:
        raise ValueError(
            f"data.root={folder}: the class folder {unprintable[0]!a} has a name that cannot be printed; rename it."
        )
    counts = [0] * len(class_names)
    for label in listing.train.labels:
        counts[label] += 1
    empty = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if empty:
        raise ValueError(
            f"data.root={folder}: no images to train on in {few(empty)}. Images are files whose suffix Pillow knows, "
            "such as .jpg, .png or .tif; remove folders that are no classes."
        )
    return listing


def of_classes(folder: Path, class_names: Sequence[str], *, within: str = "") -> tuple[Part, int]:
    """The images under each class's folder, however deep, in the order of torchvision's ImageFolder; and how many
    other files there are."""
    from .images import suffixes

    known = suffixes()
    paths: list[str] = []
    labels: list[int] = []
    num_others = 0
    for label, name in enumerate(class_names):
        if not (folder / within / name).is_dir():
            continue
        for path in walked(folder, f"{within}{name}"):
            if os.path.splitext(path)[1].lower() in known:  # noqa: PTH122 - a Path for each of a million names is slow
                paths.append(path)
                labels.append(label)
            else:
                num_others += 1
    return Part(tuple(paths), tuple(labels)), num_others


def walked(folder: Path, inside: str) -> list[str]:
    """Files under `folder/inside`, links followed: those of each folder by name, the folders by path."""
    found: list[str] = []
    waiting = [inside]
    seen: dict[tuple[int, int], str] = {}
    while waiting:
        here = waiting.pop()
        state = (folder / here).stat()
        at = seen.setdefault((state.st_dev, state.st_ino), here)
        if at != here:
            raise ValueError(f"{folder / here} leads to {folder / at} again: its images would count twice.")
        below: list[str] = []
        for entry in sorted(entries(folder / here), key=lambda entry: entry.name):
            kind = kind_of(entry)
            if kind is Kind.FOLDER:
                below.append(f"{here}/{entry.name}")
            elif kind is Kind.FILE:
                found.append(f"{here}/{entry.name}")
        waiting += reversed(below)
    return found


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, hidden files aside."""
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not entry.name.startswith(".")]
    except OSError as error:
        raise ValueError(f"data.root: the folder {folder} cannot be read: {error.strerror}.") from None


def subfolders(folder: Path) -> list[str]:
    return [entry.name for entry in entries(folder) if kind_of(entry) is Kind.FOLDER]


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

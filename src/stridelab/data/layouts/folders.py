"""Classes by folder, as torchvision's ImageFolder has them: in train/ beside test/ or val/, or in the folder itself."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..image_index import ImageIndex, Part, counted, few
from .tree import Tree

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Name of a folder, in lower case -> split."""
LAYOUT = "give a folder with train/, test/ and val/ alone, or one with a folder for each class"


def index_folders(folder: Path) -> ImageIndex:
    tree = Tree(folder)
    inside = tree.folders()
    tree.omit_loose_files()
    splits = split_folders(folder, inside)
    if "train" not in splits or not is_split_layout(tree, inside, splits):
        refuse_splits_without_train(tree, inside, splits)
        refuse_ambiguous(folder, inside)
        train = images_of(tree, inside)
        return complete(ImageIndex(folder, tuple(inside), train, None, None, counted(tree.omitted)))
    class_names = tree.folders(splits["train"])
    refuse_ambiguous(folder / splits["train"], class_names)
    parts: dict[str, Part] = {}
    for split, name in sorted(splits.items()):
        refuse_other_classes(folder / name, tree.folders(name), class_names, train=splits["train"])
        tree.omit_loose_files(name)
        parts[split] = images_of(tree, class_names, within=name)
        refuse_empty(tree, split, name, parts[split])
    if "test" not in parts and "val" in parts:  # the layout of ImageNet, whose labelled test images are val/
        parts["test"] = parts.pop("val")
    omissions = counted(tree.omitted)
    return complete(
        ImageIndex(folder, tuple(class_names), parts["train"], parts.get("val"), parts.get("test"), omissions)
    )


def split_folders(folder: Path, inside: Sequence[str]) -> dict[str, str]:
    """Split -> name of its folder."""
    found: dict[str, str] = {}
    for name in inside:
        split = SPLITS.get(name.lower())
        if split in found:
            raise ValueError(f"{folder} has both {found[split]}/ and {name}/ for the {split} split: remove one.")
        if split is not None:
            found[split] = name
    return found


def is_split_layout(tree: Tree, inside: Sequence[str], splits: Mapping[str, str]) -> bool:
    """Whether `train/` is a split; a class of that name has images in it and no folders of classes."""
    has_folders = bool(tree.folders(splits["train"]))
    strangers = sorted(set(inside) - set(splits.values()))
    if has_folders and strangers:
        raise ValueError(
            f"data.root={tree.folder} has {splits['train']}/ with folders in it, and {few(strangers)} beside it: "
            f"{LAYOUT}."
        )
    return has_folders


def refuse_splits_without_train(tree: Tree, inside: Sequence[str], splits: Mapping[str, str]) -> None:
    """Splits that would pass for classes: first/ and second/ with the same folders in them, or test/ and train/ with
    images and no folders."""
    below = {frozenset(tree.folders(name)) for name in inside}
    if len(inside) > 1 and len(below) == 1 and below != {frozenset()}:
        raise ValueError(
            f"data.root={tree.folder}: {few(inside)} have the same folders in them. If they are splits, call them "
            "train/, test/ and val/, train/ at least; the folders of classes are in those."
        )
    if len(splits) > 1 and len(splits) == len(inside):
        raise ValueError(
            f"data.root={tree.folder}: {few(inside)} have no folders of classes in them: put the images of each split "
            "in a folder for each class, such as train/cat/ and test/cat/."
        )


def refuse_ambiguous(folder: Path, names: Sequence[str]) -> None:
    """Names that are one on other systems: macOS and Windows take `Cat` for `cat`, and one form of an accent for the
    other."""
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(plain(name), name)
        if other != name:
            raise ValueError(f"{folder} has {other!r} and {name!r}, one class in two spellings: join or rename them.")


def plain(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def refuse_other_classes(folder: Path, names: Sequence[str], class_names: Sequence[str], *, train: str) -> None:
    strangers = sorted(set(names) - set(class_names))
    if strangers:
        spelt = {plain(name): name for name in class_names}
        meant = spelt.get(plain(strangers[0]))
        hint = f" ({strangers[0]!r} is spelt {meant!r} there)" if meant else ""
        raise ValueError(f"{folder} has {few(strangers)}, for which there is no folder in {train}/{hint}.")


def refuse_empty(tree: Tree, split: str, name: str, part: Part) -> None:
    if len(part):
        return
    loose = sum(path.rpartition("/")[0] == name for _, path in tree.omitted)
    lies = f"; {loose:,} files lie in it without a class" if loose else ""
    raise ValueError(
        f"{tree.folder / name} has no images in folders of classes{lies}. Put them into {name}/<class>/"
        + ("." if split == "train" else f", or move {name}/ away: images of train/ are then held out for it.")
    )


def images_of(tree: Tree, class_names: Sequence[str], *, within: str = "") -> Part:
    """The images under each class's folder, however deep, in the order of torchvision's ImageFolder."""
    paths: list[str] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        inside = f"{within}/{name}" if within else name
        if (tree.folder / inside).is_dir():
            found = tree.images(inside)
            paths += found
            labels += [label] * len(found)
    return Part(tuple(paths), tuple(labels))


def complete(index: ImageIndex) -> ImageIndex:
    """ValueError unless there are images of two classes or more, and enough of them for the splits."""
    folder, class_names = index.folder, index.class_names
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
    counts = Counter(index.train.labels)
    empty = [name for label, name in enumerate(class_names) if not counts[label]]
    if empty:
        raise ValueError(
            f"data.root={folder}: no images to train on in {few(empty)}. Images are files whose suffix Pillow knows, "
            f"such as .jpg, .png or .tif; remove folders that are no classes.{''.join(f' {n}.' for n in index.notes)}"
        )
    refuse_too_few(index)
    return index


def refuse_too_few(index: ImageIndex) -> None:
    """A test image, and one a class to train on and to validate with, where they come from the same folder."""
    num_classes, num_images, held_out = len(index.class_names), len(index.train), index.num_held_out
    taken = [f"a test split (a fifth: {held_out})"] * (index.test is None)
    taken += [f"a validation split (one a class: {num_classes})"] * (index.val is None)
    left = num_images - held_out - (num_classes if index.val is None else 0)
    if left < num_classes or (index.test is None and not held_out):
        raise ValueError(
            f"data.root={index.folder} has too few images, {num_images} of {num_classes} classes to train on: out of "
            f"them come {' and '.join(taken)}, and one a class must be left. Five a class are enough."
        )

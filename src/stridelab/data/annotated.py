"""Splits and classes as files of annotations tell them. No torch here."""

from __future__ import annotations

import re
from pathlib import Path

from .image_index import Listing, Part


def pets(folder: Path) -> Listing:
    """Oxford-IIIT Pet: lines of image, class from 1, species and breed in annotations/trainval.txt and test.txt."""
    classes: dict[int, str] = {}
    parts = []
    for split in ("trainval", "test"):
        paths, labels = [], []
        for number, line in enumerate((folder / f"annotations/{split}.txt").read_text().splitlines(), 1):
            fields = re.fullmatch(r"(\w+)_\d+ (\d+) \d+ \d+", line.strip())
            if fields is None or int(fields[2]) < 1:
                raise ValueError(f"{folder}/annotations/{split}.txt is damaged: line {number} is {line[:80]!r}.")
            label = int(fields[2]) - 1
            classes[label] = fields[1]
            paths.append(f"images/{line.split()[0]}.jpg")
            labels.append(label)
        parts.append(Part(tuple(paths), tuple(labels)))
    class_names = tuple(classes[label].replace("_", " ").title() for label in sorted(classes))
    return Listing(folder, class_names, parts[0], None, parts[1], 0)


def flowers(folder: Path) -> Listing:
    """Oxford 102 Flowers: classes from 1 in imagelabels.mat, numbers of images from 1 for each split in setid.mat."""
    from scipy.io import loadmat  # type: ignore[import-untyped, unused-ignore]

    try:
        labels = loadmat(folder / "imagelabels.mat", squeeze_me=True)["labels"].tolist()
        ids = loadmat(folder / "setid.mat", squeeze_me=True)
        train, val, test = (
            Part(
                tuple(f"jpg/image_{number:05d}.jpg" for number in ids[key].tolist()),
                tuple(int(labels[number - 1]) - 1 for number in ids[key].tolist()),
            )
            for key in ("trnid", "valid", "tstid")
        )
    except (ValueError, TypeError, KeyError, IndexError, OSError, NotImplementedError) as error:
        raise ValueError(f"{folder}: imagelabels.mat or setid.mat is damaged ({error}).") from None
    class_names = tuple(str(label + 1) for label in range(max(labels, default=0)))
    return Listing(folder, class_names, train, val, test, 0)

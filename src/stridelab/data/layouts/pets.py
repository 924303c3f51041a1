"""Oxford-IIIT Pet: lines of image, class from 1, species and breed in annotations/trainval.txt and test.txt."""

from __future__ import annotations

import re
from pathlib import Path

from ..image_index import ImageIndex, Part


def index_pets(folder: Path) -> ImageIndex:
    classes: dict[int, str] = {}
    parts = []
    for split in ("trainval", "test"):
        paths, labels = [], []
        for number, line in enumerate(
            (folder / f"annotations/{split}.txt").read_text(errors="replace").splitlines(), 1
        ):
            fields = re.fullmatch(r"(\w+)_\d+ (\d+) \d+ \d+", line.strip())
            if fields is None or int(fields[2]) < 1:
                raise ValueError(f"{folder}/annotations/{split}.txt is damaged: line {number} is {line[:80]!r}.")
            label = int(fields[2]) - 1
            classes[label] = fields[1]
            paths.append(f"images/{line.split()[0]}.jpg")
            labels.append(label)
        parts.append(Part(tuple(paths), tuple(labels)))
    class_names = tuple(classes[label].replace("_", " ").title() for label in sorted(classes))
    return ImageIndex(folder, class_names, parts[0], None, parts[1])

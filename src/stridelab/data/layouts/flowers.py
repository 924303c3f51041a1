"""Oxford 102 Flowers: classes from 1 in imagelabels.mat, numbers of images from 1 for each split in setid.mat."""

from __future__ import annotations

from pathlib import Path

from ..image_index import ImageIndex, Part


def index_flowers(folder: Path) -> ImageIndex:
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
    return ImageIndex(folder, class_names, train, val, test)

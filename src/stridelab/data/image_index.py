"""Which files a set of images consists of: their splits and classes, from names alone. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from .facts import DatasetFacts, ImageFiles

TEST_SHARE = 5
"""One image in five is the test split of a set that has none."""


@dataclass(frozen=True, slots=True)
class Part:
    """One split: paths relative to the listing's folder, and the class of each."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True)
class Listing:
    folder: Path
    class_names: tuple[str, ...]
    train: Part
    val: Part | None
    """None: there is no such split on disk, it is taken from `train`."""
    test: Part | None
    """None: there is no such split on disk, it is held out of `train`."""
    num_others: int
    """Files left out because their suffix is not that of an image."""

    @property
    def num_held_out(self) -> int:
        """Images of `train` that are the test split."""
        return 0 if self.test is not None else len(self.train) // TEST_SHARE

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is on disk, in the order in which images are stored."""
        return tuple(part for part in (self.train, self.val, self.test) if part is not None)


def listing_of(facts: DatasetFacts, folder: Path) -> Listing:
    """ValueError when `folder` does not have what it must; remembered until `listed.cache_clear()`."""
    assert isinstance(facts.files, ImageFiles)
    found = listed(facts.files.layout, folder)
    expected = facts.files.class_folders or facts.class_names
    if expected and found.class_names != expected:
        absent, more = sorted({*expected} - {*found.class_names}), sorted({*found.class_names} - {*expected})
        said = [f"lacks {few(absent)}"] * bool(absent) + [f"has {few(more)} besides"] * bool(more)
        raise ValueError(
            f"{folder} is not the set that its authors published: of classes, it {' and '.join(said) or 'has others'}."
        )
    return replace(found, class_names=facts.class_names) if expected else found


def refuse_incomplete(listing: Listing, facts: DatasetFacts) -> None:
    """ValueError when there are not as many images as the authors published."""
    counts = (
        ("training", len(listing.train) - listing.num_held_out, facts.num_train),
        ("validation", len(listing.val or ()), facts.num_val or 0),
        ("test", listing.num_held_out or len(listing.test or ()), facts.num_test),
    )
    wrong = [f"{found} {what} images instead of {expected}" for what, found, expected in counts if found != expected]
    if wrong:
        raise ValueError(
            f"{listing.folder} is not the set that its authors published: it has {', '.join(wrong)}. Unpack their "
            "archive again, or use data=image_folder for a part of it."
        )


@lru_cache(maxsize=8)
def listed(layout: str, folder: Path) -> Listing:
    from .annotated import flowers, pets
    from .folders import folders

    layouts = {"folders": folders, "pets": pets, "flowers": flowers}
    return layouts[layout](folder)


def few(some: Sequence[str], *, most: int = 5) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(repr(name) for name in some[:most])
    return shown if len(some) <= most else f"{shown} and {len(some) - most} more"

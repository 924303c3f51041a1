"""Which files a set of images consists of: their splits and classes, from names alone. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stridelab import text

TEST_SHARE = 5
"""One image in five is the test split of a set that has none."""

NAMED = 5
KINDS_NAMED = 8
"""Kinds of files left out that a note names."""


@dataclass(frozen=True, slots=True)
class Part:
    """One split: paths relative to the index's folder, and the class of each."""

    paths: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True, slots=True)
class Omission:
    """What is in the folder and is not used."""

    what: str
    count: int
    example: str


@dataclass(frozen=True, slots=True)
class ImageIndex:
    folder: Path
    class_names: tuple[str, ...]
    train: Part
    val: Part | None
    """None: there is no such split on disk, it is taken from `train`."""
    test: Part | None
    """None: there is no such split on disk, it is held out of `train`."""
    omissions: tuple[Omission, ...] = ()

    @property
    def num_held_out(self) -> int:
        """Images of `train` that are the test split."""
        return 0 if self.test is not None else len(self.train) // TEST_SHARE

    @property
    def parts(self) -> tuple[Part, ...]:
        """What is on disk, in the order in which images are stored."""
        return tuple(part for part in (self.train, self.val, self.test) if part is not None)

    @property
    def paths(self) -> list[str]:
        """Of all images, in the order in which they are stored."""
        return [path for part in self.parts for path in part.paths]

    @property
    def notes(self) -> list[str]:
        """A sentence on what is not used, if anything."""
        if not self.omissions:
            return []
        each = [f"{some.what}: {some.count:,}, such as {some.example}" for some in self.omissions[:KINDS_NAMED]]
        if rest := self.omissions[KINDS_NAMED:]:
            each.append(f"{len(rest)} other kinds: {sum(some.count for some in rest):,}")
        return [text.printable(f"left out of {self.folder}: {'; '.join(each)}")]


def few(some: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    return text.few([repr(name) for name in some], NAMED)


def counted(omissions: Iterable[tuple[str, str]]) -> tuple[Omission, ...]:
    """(what, example) of each -> how many of each kind, the most frequent first."""
    found: dict[str, list[str]] = {}
    for what, example in omissions:
        found.setdefault(what, []).append(example)
    each = (Omission(what, len(examples), min(examples)) for what, examples in found.items())
    return tuple(sorted(each, key=lambda some: (-some.count, some.what)))

"""What a data set as configured consists of; of the user's own images, their folder tells. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from .catalog import facts_of
from .catalog.facts import DatasetFacts, ImageFiles
from .image_index import ImageIndex, few
from .layouts import LAYOUTS
from .settings import DataConfig, split_sizes


@dataclass(frozen=True, slots=True)
class Contents:
    facts: DatasetFacts
    """Of image files, in the size and channels asked for."""
    num_train: int
    num_val: int


def contents_of(config: DataConfig) -> Contents:
    """ValueError when the folder is no data set, or has not as many images as are asked for."""
    facts = facts_of(config.name)
    if isinstance(facts.files, ImageFiles):
        assert config.channels is not None
        facts = replace(facts, input_size=config.size, input_channels=config.channels)
    if config.is_own_folder:
        facts = with_counts(facts, index_of(config))
    return Contents(facts, *split_sizes(config, facts))


def with_counts(row: DatasetFacts, index: ImageIndex) -> DatasetFacts:
    return replace(
        row,
        class_names=index.class_names,
        num_train=len(index.train) - index.num_held_out,
        num_val=None if index.val is None else len(index.val),
        num_test=index.num_held_out if index.test is None else len(index.test),
    )


def index_of(config: DataConfig) -> ImageIndex:
    """The image files of a set, remembered until `forget()`. ValueError when its folder is laid out in another way."""
    facts = facts_of(config.name)
    assert isinstance(facts.files, ImageFiles)
    index = indexed(facts.files.layout, config.folder)
    expected = facts.files.class_folders or facts.class_names
    if expected and index.class_names != expected:
        absent, more = sorted({*expected} - {*index.class_names}), sorted({*index.class_names} - {*expected})
        said = [f"lacks {few(absent)}"] * bool(absent) + [f"has {few(more)} besides"] * bool(more)
        raise ValueError(
            f"{index.folder} is not the set that its authors published: of classes, it "
            f"{' and '.join(said) or 'has others'}."
        )
    return replace(index, class_names=facts.class_names) if expected else index


@lru_cache(maxsize=8)
def indexed(layout: str, folder: Path) -> ImageIndex:
    try:
        return LAYOUTS[layout](folder)
    except OSError as error:
        raise ValueError(f"{error.filename or folder} cannot be read: {error.strerror}.") from None


def forget() -> None:
    """Let folders be looked at again."""
    indexed.cache_clear()


def refuse_incomplete(index: ImageIndex, facts: DatasetFacts) -> None:
    """ValueError when there are not as many images as the authors published."""
    counts = (
        ("training", len(index.train) - index.num_held_out, facts.num_train),
        ("validation", len(index.val or ()), facts.num_val or 0),
        ("test", index.num_held_out or len(index.test or ()), facts.num_test),
    )
    wrong = [f"{found} {what} images instead of {expected}" for what, found, expected in counts if found != expected]
    if wrong:
        raise ValueError(
            f"{index.folder} is not the set that its authors published: it has {', '.join(wrong)}. Unpack their "
            "archive again, or use data=image_folder for a part of it."
        )

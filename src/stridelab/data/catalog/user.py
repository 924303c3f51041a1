"""Data sets of the user's: a function that gives images and labels. It is called when its name is first needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from stridelab.system.user_code import FunctionSource, load_entry_point, source_of

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class UserDataset:
    name: str
    function: Callable[[], Any]
    source: FunctionSource

    @property
    def said(self) -> str:
        return f"{self.function.__qualname__} of {self.source.name}"


USER_DATASETS: dict[str, UserDataset] = {}


def dataset(name: str) -> Callable[[F], F]:
    """Register a function without arguments as `data=NAME`. It returns (training images, training labels, test images,
    test labels), uint8 [n, height, width, channels] or [n, height, width] and integers from 0; or one such pair, of
    which a fifth is held out for testing; or a torch Dataset of (image, label), or two: training and test. Raises
    ValueError for a name that is taken."""
    from . import DATASETS

    def register(function: F) -> F:
        source = source_of(function)
        known = USER_DATASETS.get(name)
        if name in DATASETS and not (known and known.source.path == source.path):
            raise ValueError(f"the data set {name!r} of {source.name} is taken; give it another name.")
        USER_DATASETS[name] = UserDataset(name, function, source)
        return function

    return register


def find_dataset(name: str) -> bool:
    """Whether the user has such a data set, in this process or offered by an installed package."""
    return name in USER_DATASETS or (load_entry_point("dataset", name) and name in USER_DATASETS)

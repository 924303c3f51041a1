"""The variants that arguments name, and what varies between them, known before the first is built."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path

from stridelab.models.module_plan import leaves
from stridelab.models.settings import spell

from .axes import GridPoint, grid_axes, job_at
from .compose import SEARCH, Choice, config_at
from .overrides import LAYERS
from .schema import Config
from .variants import science, short, varying_keys

ALL_ALIKE = ("sweep.", "search.", "paths.", "tracking.", "launcher")
"""How keys begin that have one value in all runs."""


@dataclass(frozen=True)
class Grid:
    """What a sweep trains, its seeds aside: one point a variant, the last key varying fastest."""

    axes: tuple[tuple[Choice, ...], ...]
    keys: tuple[str, ...]
    """What variants are called after, in the order in which a sweep names its runs."""
    num_runs: int
    """With every seed."""
    seeds: tuple[int, ...]
    settings: Config
    """What holds for all of it, such as `sweep` and `search`; its network is the default one."""

    def __len__(self) -> int:
        return prod(len(axis) for axis in self.axes)

    def __iter__(self) -> Iterator[tuple[tuple[Choice, ...], GridPoint]]:
        for point in product(*self.axes):
            yield point, job_at(point)

    def labels(self, point: Sequence[Choice]) -> tuple[tuple[str, str], ...]:
        """What a point without a configuration is called: the arguments that vary, or all where none does."""
        varied = any(len(axis) > 1 for axis in self.axes)
        return tuple(
            (short(choice.key), spell(choice.value))
            for choice, axis in zip(point, self.axes, strict=True)
            if len(axis) > 1 or not varied
        )


def grid_of(overrides: Sequence[str], *, config_dir: Path | None = None) -> Grid:
    """ValueError for an argument that no variant could have, as `expand` has it."""
    axes: list[tuple[Choice, ...]] = []
    keys: set[str] = set()
    found = grid_axes(overrides, config_dir=config_dir)
    for choices in found.values():
        moves = keys_moved_by(choices, search=found.get(SEARCH, ()))
        keys.update(key for key in moves if key == choices[0].key or key not in found)
        axes.append(tuple(choices if moves else choices[:1]))
    settings = config_at(tuple(one[0] for one in axes if one[0].is_group or one[0].key.startswith(ALL_ALIKE)))
    return Grid(
        axes=tuple(axes),
        keys=(*(key for key in science(Config()) if key in keys), *sorted(keys - science(Config()).keys())),
        num_runs=prod(len(choices) for choices in found.values()),
        seeds=tuple(config_at((choice,)).seed for choice in found.get("seed", ())) or (settings.seed,),
        settings=settings,
    )


def keys_moved_by(choices: Sequence[Choice], *, search: Sequence[Choice] = ()) -> tuple[str, ...]:
    """The keys of `science` that differ between `choices`; a choice that can change no result is tried here."""
    first = choices[0]
    if first.is_group and len(choices) == 1:
        return ()
    if first.is_group:
        return varying_keys([config_at((*search, choice)) for choice in choices])
    if first.key == LAYERS.rstrip("."):
        settings = [dict(leaves(choice.value)) for choice in choices]
        names = dict.fromkeys(name for one in settings for name in one)
        return tuple(LAYERS + name for name in names if any(one.get(name) != settings[0].get(name) for one in settings))
    if first.key in science(Config()) or first.key.startswith("model."):
        return (first.key,) if len(choices) > 1 else ()
    if first.key == "probes":  # must fit the task, which other arguments choose: each point is asked
        return ()
    for choice in choices:
        config_at((choice,))
    return ()

"""What a search chooses from, and what it answers. Nothing here trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from stridelab.config.schema import SearchConfig

Point = tuple[int, ...]
"""A plan: which choice of each axis it has."""


@dataclass(frozen=True)
class Trial:
    point: Point
    epochs: int
    seed: int


@dataclass(frozen=True)
class Step:
    """What to train next, or, when that is nothing, how the search ended."""

    trials: tuple[Trial, ...] = ()
    said: str = ""
    """What these trials are, for people."""
    finalists: tuple[Point, ...] = ()
    """To be trained with all seeds."""
    dropped: Mapping[Point, str] = field(default_factory=dict)
    """When and why each of the others was given up: `after 3 epochs: ...`."""


@dataclass(frozen=True)
class Space:
    axes: tuple[tuple[str, ...], ...]
    """Choices of each axis, as they are written: what a sampler is shown."""
    price: Callable[[Point], int | None]
    """MACs of a plan; None where it is impossible or outside the bounds."""
    listed: Callable[[], Sequence[Point]]
    """All plans within the bounds; of a space too large to list, a ValueError."""
    seeds: tuple[int, ...]
    """Of the sweep: what the finalists are trained with."""
    max_epochs: int
    settings: SearchConfig

    @cached_property
    def points(self) -> tuple[Point, ...]:
        return tuple(self.listed())

    @property
    def num_plans(self) -> int | None:
        """None where nobody has listed them."""
        return len(self.points) if "points" in vars(self) else None

    def macs(self, point: Point) -> int:
        found = self.price(point)
        assert found is not None
        return found

    def octaves(self, points: Sequence[Point]) -> Iterator[list[Point]]:
        """The plans by doublings of MACs, cheapest first; in one band where they need not compete for a front."""
        bands: dict[int, list[Point]] = {}
        for point in points:
            bands.setdefault(int(math.log2(self.macs(point))) if self.settings.front else 0, []).append(point)
        yield from (bands[octave] for octave in sorted(bands))


def share_of(count: int, keep: float) -> int:
    """How many a share of them is, rounded up; 0.55 of 20 are 11, though 0.55 * 20 is a little more."""
    return math.ceil(count * keep - 1e-9)

"""Whether two runs are the same: digests, and every metric at every step that does not measure time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stridelab import names

TIMED = ("throughput/", "latency/", "time/", "memory/peak", "benchmark/")
"""Metrics of a moment and a machine: never compared. All others are, also those that are new."""
PROBED = "probe/"
"""Compared where both runs have them: anybody may probe a finished run."""
IDENTICAL, CLOSE, DIFFERENT = "identical", "equal within tolerance", "different"
EXIT_CODES = {IDENTICAL: 0, CLOSE: 3, DIFFERENT: 4}

Steps = Mapping[int, float]


@dataclass(frozen=True)
class Row:
    """One metric. Values are None where one of the two runs has none at that step."""

    metric: str
    num_steps: int
    num_equal: int
    largest: float
    """Relative difference, at any step; inf where a value is missing or not a number."""
    first: tuple[int, float | None, float | None] | None
    """The first step that differs, the stored value, the new one."""


@dataclass(frozen=True)
class Digest:
    what: str
    was: str
    now: str

    @property
    def same(self) -> bool:
        return self.was == self.now != ""


@dataclass(frozen=True)
class Reproduction:
    verdict: str
    tolerance: float
    digests: tuple[Digest, ...]
    rows: tuple[Row, ...]
    first: str
    """The first metric and step that differ, in words; empty when none does."""


def compare(
    was: Mapping[str, Steps],
    now: Mapping[str, Steps],
    *,
    tags: Mapping[str, str],
    new_tags: Mapping[str, str],
    tolerance: float,
) -> Reproduction:
    digests = tuple(
        Digest(names.DIGESTS[key], tags.get(key, ""), new_tags.get(key, "")) for key in names.RESULT_DIGESTS
    )
    keys = [key for key in dict.fromkeys([*now, *was]) if not key.startswith(TIMED)]
    keys = [key for key in keys if not key.startswith(PROBED) or (key in now and key in was)]
    rows = tuple(row(key, was.get(key, {}), now.get(key, {})) for key in keys)
    return Reproduction(judge(digests, rows, tolerance), tolerance, digests, rows, first_difference(rows))


def row(metric: str, was: Steps, now: Steps) -> Row:
    steps = sorted({*was, *now})
    differ = [step for step in steps if not equal(was.get(step), now.get(step))]
    first = (differ[0], was.get(differ[0]), now.get(differ[0])) if differ else None
    largest = max((apart(was.get(step), now.get(step)) for step in differ), default=0.0)
    return Row(metric, len(steps), len(steps) - len(differ), largest, first)


def equal(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return False
    return one == other or (math.isnan(one) and math.isnan(other))


def apart(one: float | None, other: float | None) -> float:
    """Relative to the larger of the two."""
    if one is None or other is None or not (math.isfinite(one) and math.isfinite(other)):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other))


def judge(digests: Sequence[Digest], rows: Sequence[Row], tolerance: float) -> str:
    """Runs that began with other weights, or saw the images in another order, are different experiments. Final
    weights that were not recorded cannot be called identical."""
    start, order, final = digests
    if not rows or any(one.was and one.now and not one.same for one in (start, order)):
        return DIFFERENT
    if final.same and all(one.first is None for one in rows):
        return IDENTICAL
    return CLOSE if all(one.largest <= tolerance for one in rows) else DIFFERENT


def first_difference(rows: Sequence[Row]) -> str:
    """By step, then in the order of recording; what is recorded once, at step 0, comes after the epochs."""
    found = [(one.first[0] == 0, one.first[0], number, one) for number, one in enumerate(rows) if one.first is not None]
    if found:
        _, step, _, one = min(found)
        assert one.first is not None
        return f"{one.metric} at step {step}: {spelled(one.first[1])}, now {spelled(one.first[2])}"
    return ""


def spelled(value: float | None) -> str:
    return "not recorded" if value is None else repr(value)

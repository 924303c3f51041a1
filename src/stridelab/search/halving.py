"""Successive halving (Jamieson and Talwalkar 2016) inside bands of cost: a plain one drops the cheap plans first, and
the front with them."""

from __future__ import annotations

import math
from collections.abc import Mapping

from stridelab.text import plural

from .space import Point, Space, Step, Trial, share_of

STEPS = (9, 3, 1)
"""Parts of max_epochs that the rungs are, where none are given."""


def halving(space: Space, scores: Mapping[Trial, float]) -> Step:
    """See `Search`. All plans of a rung have one training seed, which none of the finalists' seeds is: what was chosen
    for its luck with it is not measured by it."""
    refuse_stale(space)
    left, dropped = list(space.points), dict[Point, str]()
    for number, epochs in enumerate(rungs_of(space), start=1):
        trials = {point: Trial(point, epochs, space.settings.seed) for point in left}
        if missing := tuple(trial for trial in trials.values() if trial not in scores):
            return Step(missing, said=f"rung {number}: {plural(len(left), 'plan')}, {plural(epochs, 'epoch')}")
        for band in space.octaves(left):
            ranked = sorted(band, key=lambda point: scores[trials[point]], reverse=True)
            most = share_of(len(band), space.settings.keep)
            reason = "of all plans" if not space.settings.front else "of its octave of MACs"
            for place, point in enumerate(ranked, start=1):
                if scores[trials[point]] == -math.inf:
                    dropped[point] = f"after {plural(epochs, 'epoch')}: diverged"
                elif place > most:
                    dropped[point] = f"after {plural(epochs, 'epoch')}: {place} of {len(band)} {reason}"
        left = [point for point in left if point not in dropped]
    return Step(finalists=tuple(left), dropped=dropped)


def rungs_of(space: Space) -> list[int]:
    """Epochs of each. ValueError for one that is longer than the schedule."""
    rungs = space.settings.rungs or sorted({math.ceil(space.max_epochs / part) for part in STEPS})
    if rungs[-1] > space.max_epochs:
        raise ValueError(
            f"search.rungs={rungs}: a rung of {rungs[-1]} epochs is longer than trainer.max_epochs={space.max_epochs}; "
            "give shorter rungs, or more epochs."
        )
    return list(rungs)


def refuse_stale(space: Space) -> None:
    if space.settings.seed in space.seeds:
        raise ValueError(
            f"search.seed={space.settings.seed} is one of the sweep's seeds: what is chosen with a seed must not be "
            "measured with it (the winner's curse); give another one."
        )

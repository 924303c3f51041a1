"""A race over seeds (Maron and Moore 1994): one more at a time, for all plans that are not clearly worse by then."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from stridelab.report.statistics import sign_flip_p
from stridelab.text import plural

from .space import Point, Space, Step, Trial

Floats = NDArray[np.float64]


def race(space: Space, scores: Mapping[Trial, float]) -> Step:
    """See `Search`. A plan is dropped when a one-sided test, paired by seed, finds it worse than the best that costs no
    more, at search.alpha / (looks x other plans): by Bonferroni, a plan that none beats is dropped with no more than
    that chance in the whole race, whichever plan leads."""
    looks, num_plans = looks_of(space), len(space.points)
    level = space.settings.alpha / (len(looks) * max(num_plans - 1, 1))
    left, dropped = list(space.points), dict[Point, str]()
    for count in (*looks, len(space.seeds)):
        trials = [[Trial(point, space.max_epochs, seed) for seed in space.seeds[:count]] for point in left]
        if missing := tuple(trial for row in trials for trial in row if trial not in scores):
            return Step(missing, said=f"{plural(len(left), 'plan')} with {plural(count, 'seed')} each")
        table, when = np.array([[scores[trial] for trial in row] for row in trials]), f"after {plural(count, 'seed')}"
        sound = np.isfinite(table).all(axis=1)
        dropped |= {point: f"{when}: diverged" for point, ok in zip(left, sound, strict=True) if not ok}
        left, table = [point for point, ok in zip(left, sound, strict=True) if ok], table[sound]
        if count < len(space.seeds):
            p = TESTS[space.settings.test](table, leaders(space, left, table))
            lost = {point: one for point, one in zip(left, p, strict=True) if one <= level}
            beaten = f"worse than {'a plan of no more MACs' if space.settings.front else 'the best'}"
            dropped |= {point: f"{when}: {beaten}, p = {one:.1g}" for point, one in lost.items()}
            left = [point for point in left if point not in lost]
    return Step(finalists=tuple(left), dropped=dropped)


def leaders(space: Space, left: list[Point], table: Floats) -> list[int]:
    """Of each plan, the best by mean among those that cost no more (of all, where no front is wanted): its row."""
    costs, means = np.array([space.macs(point) for point in left]), table.mean(axis=1)
    if not space.settings.front:
        return [int(means.argmax())] * len(left)
    return [int(np.where(costs <= cost, means, -np.inf).argmax()) for cost in costs]


def t_test(table: Floats, leader: list[int]) -> Floats:
    """One-sided p of each row against its leader's. The spread is what is left of all scores besides the means of
    plans and seeds, or that of the plan's own differences where that is larger."""
    plans, seeds = table.shape
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    freedom = max((plans - 1) * (seeds - 1), 1)
    d = table[leader] - table
    variance = np.maximum(2 * (rest**2).sum() / freedom, d.var(axis=1, ddof=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = d.mean(axis=1) / np.sqrt(variance / seeds)
    return np.where(d.mean(axis=1) > 0, stdtr(freedom, -t), 1.0)


def sign_flip(table: Floats, leader: list[int]) -> Floats:
    """The exact test, half of its two-sided p."""
    d = table[leader] - table
    return np.array([sign_flip_p(row) / 2 if row.mean() > 0 else 1.0 for row in d])


TESTS: dict[str, Callable[[Floats, list[int]], Floats]] = {"t": t_test, "sign_flip": sign_flip}
"""`search.test` -> (scores [plan, seed], row of each plan's leader) -> p of each plan."""


def looks_of(space: Space) -> range:
    """Numbers of seeds at which plans are dropped: from the first that the test can decide with. ValueError where that
    would save no seed."""
    most, others = len(space.seeds), max(len(space.points) - 1, 1)
    if space.settings.test == "t":
        first, needed = 2, 3
    else:
        first = first_decisive(most, others, space.settings.alpha)
        needed = next(count for count in range(2, 1000) if first_decisive(count, others, space.settings.alpha) < count)
    if first >= most:
        raise ValueError(
            f"search=race with search.test={space.settings.test} needs at least {needed} seeds for "
            f"{plural(len(space.points), 'plan')}, and seed= has {most}; give more seeds"
            f"{', or search.test=t' if space.settings.test != 't' else ''}."
        )
    return range(first, most)


def first_decisive(most: int, others: int, alpha: float) -> int:
    """Seeds with which a sign-flip test can reach its level, if it looks at each number from there to `most` - 1."""
    return next((n for n in range(2, most) if 2.0**-n <= alpha / (others * (most - n))), most)

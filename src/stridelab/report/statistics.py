"""How sure are we: intervals over seeds, tests of paired differences, their power, the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import nctdtr, stdtr, stdtrit

Floats = NDArray[np.float64]

ALPHA = 0.05
"""Two-sided level of every interval (95 %) and every verdict."""
NO_SPREAD = 1e-12
"""An sd, or the width of an interval, up to it is that of equal values."""
POWER = 0.8
"""How often a difference that could have been found is found."""
EXACT_SEEDS = 20
"""Up to this many differences every sign flip is counted; beyond it a fixed random sample of them."""
SAMPLED = 100_000
"""Sign flips in that sample."""
SCREENING_FROM = 21
"""As many contrasts or more are a screening: Benjamini and Hochberg's procedure stands in for Holm's."""
MOST_SEEDS = 50
"""Never are more proposed."""

BASELINE = "baseline"
DIFFERS = "differs"
EQUIVALENT = "equivalent"
UNDECIDED = "undecided"
TOO_FEW = "too few seeds"
UNPAIRED = "no shared seed"
ABSENT = "no result"
VERDICTS = (DIFFERS, EQUIVALENT, UNDECIDED, TOO_FEW, UNPAIRED)
OPEN = (UNDECIDED, TOO_FEW)
"""Verdicts that more seeds may change."""


def half_width(sd: ArrayLike, *, n: ArrayLike) -> Floats:
    """Half of Student's 95 % interval of a mean, from the sample sd of n values; NaN below two values."""
    sd, n = np.asarray(sd, dtype=float), np.asarray(n, dtype=float)
    enough = n >= 2
    freedom = np.where(enough, n - 1, 1.0)
    quantile = stdtrit(freedom, 1 - ALPHA / 2)
    return np.where(enough, quantile * sd / np.sqrt(np.maximum(n, 1)), np.nan)


def one_sided_width(sd: float, *, n: int) -> float:
    """From the mean to the bound below which the true mean lies in 95 of 100 cases (Student's)."""
    return float(stdtrit(n - 1, 1 - ALPHA) * sd / math.sqrt(n))


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p of the sign-flip permutation test of "the mean paired difference is zero".

    Under that hypothesis each seed's difference could as well have had the other sign, so p is the share of all
    2**n sign patterns whose mean is at least as far from zero. Never below 2 / 2**n: see `seeds_needed`.

    >>> sign_flip_p([0.01, 0.02, 0.03])
    0.25
    """
    d = np.asarray(differences, dtype=float)
    assert d.ndim == 1, d.shape
    assert np.isfinite(d).all(), d
    far = abs(d.sum()) - 1e-9 * np.abs(d).sum()  # sums that are equal in exact arithmetic stay equal after rounding
    if d.size > EXACT_SEEDS:
        signs = _signs(d.size).astype(float)
        return float((1 + np.count_nonzero(np.abs(signs @ d) >= far)) / (1 + len(signs)))
    sums = d[:1]  # the first sign can stay: a pattern and its mirror image are equally far from zero
    for value in d[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.count_nonzero(np.abs(sums) >= far) / len(sums))


@lru_cache(maxsize=2)
def _signs(count: int) -> NDArray[np.int8]:
    """The patterns that are drawn for `count` differences; drawing them takes six times as long as adding up."""
    return np.random.default_rng(0).choice([-1.0, 1.0], size=(SAMPLED, count)).astype(np.int8)


def equivalence_p(mean: ArrayLike, sd: ArrayLike, *, n: ArrayLike, margin: float) -> Floats:
    """p of "the mean difference is `margin` or more away from zero": the larger of two one-sided t-tests (Schuirmann
    1987). Below 0.05 if and only if the 90 % t-interval lies within the margin. NaN below two values or without one.
    Of equal values Student's interval would be a point, however few they are: the sign test's p then, 1 / 2**n.

    >>> equivalence_p(0.001, 0.002, n=8, margin=0.005).round(4).tolist()
    0.0004
    >>> equivalence_p(0.0, 0.0, n=2, margin=0.005).tolist()
    0.25
    """
    mean, sd, n = (np.asarray(x, dtype=float) for x in (mean, sd, n))
    enough = (n >= 2) & (margin > 0)
    error = np.where(enough, np.maximum(sd, NO_SPREAD) / np.sqrt(np.maximum(n, 1)), np.nan)
    p = stdtr(np.maximum(n - 1, 1), (np.abs(mean) - margin) / error)
    return np.where(enough & (sd <= NO_SPREAD), np.where(np.abs(mean) < margin, 0.5**n, 1.0), p)


def holm(p_values: ArrayLike) -> Floats:
    """Holm's step-down correction over all finite p values: they then hold together at the same level.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=float)
    corrected = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(np.isfinite(p))]  # NaN sorts last
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """Of the differences whose adjusted p is below 0.05, no more than 5 % are expected to be none (1995).

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.04, 0.04]
    """
    p = np.asarray(p_values, dtype=float)
    corrected = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(np.isfinite(p))]
    steps = p[order] * len(order) / np.arange(1, len(order) + 1)
    corrected[order] = np.minimum.accumulate(steps[::-1])[::-1]
    return corrected


def corrected(p_values: ArrayLike) -> Floats:
    """Holm's within one claim; of a screening, Benjamini and Hochberg's."""
    p = np.asarray(p_values, dtype=float)
    return benjamini_hochberg(p) if is_screening(int(np.isfinite(p).sum())) else holm(p)


def is_screening(num_comparisons: int) -> bool:
    return num_comparisons >= SCREENING_FROM


def strictest_level(num_comparisons: int) -> float:
    """The level that one of so many comparisons has to reach where no other differs."""
    return ALPHA / max(num_comparisons, 1)


def seeds_needed(num_comparisons: int) -> int:
    """The fewest seeds with which a sign-flip test can reach p < 0.05 after Holm's correction: 2 m / 2**n < 0.05. Of a
    screening, where all may differ at once: 2 / 2**n < 0.05.

    >>> seeds_needed(1), seeds_needed(2), seeds_needed(5)
    (6, 7, 8)
    """
    level = ALPHA if is_screening(num_comparisons) else strictest_level(num_comparisons)
    return math.floor(math.log2(2 / level)) + 1


def verdicts(p: ArrayLike, *, p_equivalent: ArrayLike, n: Sequence[int]) -> list[str]:
    """What may be said of each comparison, of corrected p values: DIFFERS, EQUIVALENT, UNDECIDED, TOO_FEW or UNPAIRED.
    What differs significantly is said to differ, however little."""
    needed = seeds_needed(sum(count > 0 for count in n))

    def verdict(p: float, p_equivalent: float, n: int) -> str:
        if n == 0:
            return UNPAIRED
        if p < ALPHA:
            return DIFFERS
        if p_equivalent < ALPHA:
            return EQUIVALENT
        return TOO_FEW if n < needed else UNDECIDED

    return [verdict(*row) for row in zip(np.asarray(p, float), np.asarray(p_equivalent, float), n, strict=True)]


@cache
def detectable(n: int, *, level: float = ALPHA) -> float:
    """The smallest true mean difference, in sd of the paired differences, that the sign-flip test of n of them finds at
    `level` in 8 of 10 cases, for normal differences; inf where it can find none.

    Up to 8 seeds by 2,000 simulated sets of differences, the same for every size; beyond, where the two agree to
    4 %, of Student's t-test.
    """
    if 2 / 2**n >= level:
        return math.inf
    if n > 8:
        return _root(lambda size: _t_power(size, n=n, level=level))
    signs = np.array(np.meshgrid(*[[1.0, -1.0]] * (n - 1), indexing="ij")).reshape(n - 1, -1).T
    signs = np.column_stack([np.ones(len(signs)), signs])  # the first pattern flips nothing
    sums = np.random.default_rng(0).standard_normal((2000, n)) @ signs.T

    def power(size: float) -> float:
        shifted = np.abs(sums + size * signs.sum(axis=1))
        p = (shifted >= shifted[:, :1] - 1e-9).mean(axis=1)
        return float((p < level).mean())

    return _root(power)


def _t_power(size: float, *, n: int, level: float) -> float:
    bound, shift = stdtrit(n - 1, 1 - level / 2), size * math.sqrt(n)
    return float(1 - nctdtr(n - 1, shift, bound) + nctdtr(n - 1, shift, -bound))


def _root(power: Callable[[float], float]) -> float:
    """Where a growing function reaches POWER, to 0.1 %."""
    low, high = 0.0, 0.25
    while power(high) < POWER:
        low, high = high, 2 * high
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    return high


def seeds_to_find(size: float, *, level: float = ALPHA) -> int | None:
    """The fewest seeds that find a true difference of `size` sd in 8 of 10 cases; None: more than MOST_SEEDS.

    >>> seeds_to_find(1.5), seeds_to_find(0.1)
    (7, None)
    """
    return next((n for n in range(2, MOST_SEEDS + 1) if detectable(n, level=level) <= size), None)


def pareto(score: ArrayLike, *, cost: ArrayLike, low: ArrayLike, high: ArrayLike) -> list[str]:
    """Each variant's place: "front", "dominated" or "undecided" (high score, low cost; NaN cost or score: "").

    On the front: no other has at least its score at no more cost (and one of both better). Dominated: another at
    no more cost has an interval that lies wholly above. Between the two the intervals overlap (or there is
    none, with one seed), so the seeds do not decide.
    """
    score, cost, low, high = (np.asarray(x, dtype=float) for x in (score, cost, low, high))
    known = np.isfinite(score) & np.isfinite(cost)
    cheap = cost[:, None] <= cost[None, :]  # [other, this]; comparisons with NaN are False
    better = (cost[:, None] < cost[None, :]) | (score[:, None] > score[None, :])
    beaten = (cheap & (score[:, None] >= score[None, :]) & better).any(axis=0)
    clearly = (cheap & (low[:, None] > high[None, :])).any(axis=0)
    place = np.where(clearly, "dominated", np.where(beaten, "undecided", "front"))
    return [str(p) if k else "" for p, k in zip(place, known, strict=True)]

"""How sure are we: intervals over seeds, paired differences to a baseline, the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]

ALPHA = 0.05
"""Two-sided level of every interval (95 %) and every verdict."""
EXACT_SEEDS = 20
"""Up to this many differences every sign flip is counted; beyond it a fixed random sample of them."""

BASELINE = "baseline"
DIFFERS = "differs"
NOISE = "within noise"
TOO_FEW = "too few seeds"
UNPAIRED = "no shared seed"


def half_width(sd: ArrayLike, *, n: ArrayLike) -> Floats:
    """Half of Student's 95 % interval of a mean, from the sample sd of n values; NaN below two values."""
    sd, n = np.asarray(sd, dtype=float), np.asarray(n, dtype=float)
    enough = n >= 2
    freedom = np.where(enough, n - 1, 1.0)
    quantile = stdtrit(freedom, 1 - ALPHA / 2)
    return np.where(enough, quantile * sd / np.sqrt(np.maximum(n, 1)), np.nan)


def sign_flip_p(differences: ArrayLike) -> float:
    """Two-sided p of the sign-flip permutation test of "the mean paired difference is zero".

    Under that hypothesis each seed's difference could as well have had the other sign, so p is the share of all
    2**n sign patterns whose mean is at least as far from zero. Never below 2 / 2**n: see `seeds_needed`.

    >>> sign_flip_p([0.01, 0.02, 0.03])
    0.25
    """
    low, high = _splits(differences)
    return float((1 + np.count_nonzero((low <= 0) & (high >= 0))) / (1 + len(low)))


def sign_flip_interval(differences: ArrayLike, *, level: float) -> tuple[float, float]:
    """The mean differences that the sign-flip test does not refuse at `level`: its test, turned round. It holds 0 if
    and only if `sign_flip_p` is above `level`. NaN where so few seeds can refuse nothing.

    >>> sign_flip_interval([0.01, 0.02, 0.03, 0.04, 0.05, 0.06], level=0.05)
    (0.01, 0.06)
    """
    low, high = _splits(differences)
    count = math.floor(level * (1 + len(low)))  # patterns that refuse a mean just below the interval
    if count < 1:
        return math.nan, math.nan
    return float(np.partition(low, count - 1)[count - 1]), float(np.partition(high, -count)[-count])


def _splits(differences: ArrayLike) -> tuple[Floats, Floats]:
    """Of every split of the differences into two parts (those whose sign is kept, those whose sign is flipped), the
    lower and the higher of the two means.

    With a mean m as hypothesis, flipping a part leaves a sum at least as far from zero if and only if m lies between
    the two means: (A + B)**2 <= (A - B)**2 means A * B <= 0, for the sums A and B of the differences less m.
    """
    d = np.asarray(differences, dtype=float)
    assert d.ndim == 1, d.shape
    assert np.isfinite(d).all(), d
    if d.size > EXACT_SEEDS:
        kept = np.random.default_rng(0).choice([False, True], size=(100_000, d.size))
        sums, counts = kept @ d, kept.sum(axis=1)
    else:  # the first sign can stay: a pattern and its mirror image are one split
        sums, counts = d[:1], np.ones(1)
        for value in d[1:]:
            sums, counts = np.concatenate([sums + value, sums]), np.concatenate([counts + 1, counts])
        sums, counts = sums[counts < d.size], counts[counts < d.size]  # the split that flips nothing is counted apart
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.array([_snapped(sums, d) / counts, _snapped(d.sum() - sums, d) / (d.size - counts)])
    means[:, (counts == 0) | (counts == d.size)] = [[-np.inf], [np.inf]]
    return means.min(axis=0), means.max(axis=0)


def _snapped(sums: Floats, d: Floats) -> Floats:
    """Sums that are zero in exact arithmetic stay zero after rounding."""
    return np.where(np.abs(sums) <= 1e-9 * np.abs(d).sum(), 0.0, sums)


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


def holm_levels(p_values: ArrayLike) -> Floats:
    """The level at which Holm's procedure tests each of the p values: ALPHA over the number of hypotheses that are
    still open. An interval at that level excludes 0 if and only if its verdict is DIFFERS (Serlin 1993).

    >>> holm_levels([0.01, 0.04, 0.03]).round(4).tolist()
    [0.0167, 0.025, 0.025]
    """
    p = np.asarray(p_values, dtype=float)
    levels = np.full(p.shape, np.nan)
    order = np.argsort(p, kind="stable")[: np.count_nonzero(np.isfinite(p))]
    refused = np.count_nonzero(holm(p) < ALPHA)
    levels[order] = ALPHA / (len(order) - np.minimum(np.arange(len(order)), refused))
    return levels


def seeds_needed(num_comparisons: int) -> int:
    """The fewest seeds with which a sign-flip test can reach p < 0.05 after Holm: 2 m / 2**n < 0.05.

    >>> seeds_needed(1), seeds_needed(2), seeds_needed(5)
    (6, 7, 8)
    """
    return math.floor(math.log2(2 * max(num_comparisons, 1) / ALPHA)) + 1


def verdicts(p_holm: ArrayLike, *, n: Sequence[int]) -> list[str]:
    """What may be said of each comparison: DIFFERS, NOISE, TOO_FEW or UNPAIRED."""
    p = np.asarray(p_holm, dtype=float)
    needed = seeds_needed(sum(count > 0 for count in n))

    def verdict(p: float, n: int) -> str:
        if n == 0:
            return UNPAIRED
        if p < ALPHA:
            return DIFFERS
        return TOO_FEW if n < needed else NOISE

    return [verdict(float(value), count) for value, count in zip(p, n, strict=True)]


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

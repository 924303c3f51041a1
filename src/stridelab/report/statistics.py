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
    d = np.asarray(differences, dtype=float)
    assert d.ndim == 1, d.shape
    assert np.isfinite(d).all(), d
    if not d.any():
        return 1.0
    observed = abs(d.sum()) - 1e-9 * np.abs(d).sum()  # ties in exact arithmetic stay ties after rounding
    if d.size > EXACT_SEEDS:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(100_000, d.size))
        return float((1 + np.count_nonzero(np.abs(signs @ d) >= observed)) / (1 + len(signs)))
    sums = d[:1]  # the first sign can stay fixed: |sum| is the same for a pattern and its mirror image
    for value in d[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= observed))


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

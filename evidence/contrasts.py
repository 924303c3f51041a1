"""Planned contrasts: sums of weighted results of the runs of one seed, over seeds.

The statistics are the report's own: sign-flip test, Student's interval, two one-sided t-tests, Holm within the claim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stridelab.probes.catalog import metric_of
from stridelab.report import statistics
from stridelab.report.statistics import Floats
from stridelab.report.table import records

ABOVE, BELOW, EQUAL, NOT_WORSE = "above 0", "below 0", "equal", "not worse"
MET, CONTRADICTED, EQUIVALENT, UNDECIDED = "as claimed", "the other way", "equivalent", "undecided"
Term = tuple[float, str, str]
"""Weight, arm, metric."""


@dataclass(frozen=True)
class Contrast:
    label: str
    terms: tuple[Term, ...]
    claimed: str = ABOVE
    margin: float = 0.0
    """Differences up to it do not matter, in the metric's shown unit."""
    decides: bool = True
    """Whether the claim's verdict needs it; others are shown."""
    every_seed: bool = False
    """Claimed of each seed, not of the mean alone."""
    family: str = "claim"
    """Contrasts of one family are corrected together (Holm)."""

    @property
    def factor(self) -> float:
        """Shown unit for each of the stored one."""
        found = metric_of(self.terms[0][2])
        return found.factor if found else 1.0

    @property
    def unit(self) -> str:
        found = metric_of(self.terms[0][2])
        return "points" if found and found.factor == 100 else found.unit if found else ""


def difference(arm: str, other: str, *, metric: str = "test/acc", **of: object) -> Contrast:
    """The first arm less the second."""
    terms = ((1.0, arm, metric), (-1.0, other, metric))
    what = "" if metric == "test/acc" else metric.partition("/")[2].replace("_", " ") + ": "
    return replace(Contrast(f"{what}{arm} - {other}", terms), **of)  # type: ignore[arg-type]


def draws(contrast: Contrast, runs: pd.DataFrame, arms: Mapping[str, str]) -> Floats:
    """Its value for each seed that all its arms have finished, in the metric's shown unit."""
    done = runs[runs["status"] == "finished"]
    seeds = sorted(set(done["seed"]))
    parts = [
        weight * done[done["variant"] == arms[arm]].set_index("seed")[metric].reindex(seeds).to_numpy(dtype=float)
        for weight, arm, metric in contrast.terms
    ]
    total: Floats = contrast.factor * np.sum(parts, axis=0)
    return total[np.isfinite(total)]


def estimates(contrasts: Sequence[Contrast], runs: pd.DataFrame, arms: Mapping[str, str]) -> pd.DataFrame:
    """One row a contrast: label, claimed, unit, margin, decides, n, positive (seeds above 0), mean, sd, low, high, p,
    p_holm, p_equivalent (corrected, too), outcome."""
    found = [draws(contrast, runs, arms) for contrast in contrasts]
    families = np.array([contrast.family for contrast in contrasts])
    n = np.array([len(d) for d in found])
    mean, sd = np.array([d.mean() for d in found]), np.array([d.std(ddof=1) for d in found])
    half = statistics.half_width(sd, n=n)
    p = np.array([statistics.sign_flip_p(d) for d in found])
    margins = [contrast.margin for contrast in contrasts]
    each = zip(mean, sd, n, margins, strict=True)
    equivalent = np.array([float(statistics.equivalence_p(m, s, n=k, margin=within)) for m, s, k, within in each])
    table = pd.DataFrame({"label": [c.label for c in contrasts], "claimed": [c.claimed for c in contrasts]})
    table["unit"], table["margin"] = [c.unit for c in contrasts], margins
    table["decides"] = [c.decides for c in contrasts]
    table["n"], table["positive"] = n, [int((d > 0).sum()) for d in found]
    table["mean"], table["sd"], table["low"], table["high"] = mean, sd, mean - half, mean + half
    table["p"], table["p_holm"], table["p_equivalent"] = p, corrected(p, families), corrected(equivalent, families)
    rows = zip(contrasts, records(table), strict=True)
    table["outcome"] = [outcome(contrast, row) for contrast, row in rows]
    return table


def corrected(p: Floats, families: NDArray[np.str_]) -> Floats:
    """Holm's, within each family."""
    found = p.copy()
    for family in set(families.tolist()):
        found[families == family] = statistics.holm(p[families == family])
    return found


def outcome(contrast: Contrast, row: Mapping[str, float]) -> str:
    """What the seeds say of what was claimed."""
    if not contrast.claimed:
        return ""
    differs, same = row["p_holm"] < statistics.ALPHA, row["p_equivalent"] < statistics.ALPHA
    if contrast.claimed == NOT_WORSE:
        if row["low"] > -contrast.margin:
            return MET
        return CONTRADICTED if row["high"] < -contrast.margin else UNDECIDED
    if contrast.claimed == EQUAL:
        return MET if same else CONTRADICTED if differs else UNDECIDED
    sign = 1 if contrast.claimed == ABOVE else -1
    seeds = row["positive"] if sign > 0 else row["n"] - row["positive"]
    if differs and sign * row["mean"] > 0:
        return MET if not contrast.every_seed or seeds == row["n"] else UNDECIDED
    return CONTRADICTED if differs else EQUIVALENT if same else UNDECIDED


def verdict(table: pd.DataFrame) -> str:
    """Of the claim, from the contrasts that decide."""
    outcomes = set(table.loc[table["decides"], "outcome"])
    if outcomes == {MET}:
        return "supported"
    if CONTRADICTED in outcomes:
        return "not supported"
    return "equivalent" if outcomes <= {MET, EQUIVALENT} else "undecided"

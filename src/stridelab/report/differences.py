"""Paired differences: every variant against a baseline, seed by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stridelab.probes.catalog import metric_of
from stridelab.report import statistics
from stridelab.report.table import per_draw


def paired(runs: pd.DataFrame, *, metric: str, baseline: str) -> pd.DataFrame:
    """Differences to the baseline, seed by seed: rows = seeds, columns = variants, NaN where either run is missing."""
    order = list(runs["variant"].unique())
    if baseline not in order:
        raise ValueError(f"baseline={baseline!r} is not a variant of this sweep; choose one of {', '.join(order)}.")
    values = per_draw(runs)[metric].unstack("variant").reindex(columns=order)
    return values.sub(values[baseline], axis="index")


def differences(runs: pd.DataFrame, *, metric: str, baseline: str) -> pd.DataFrame:
    """One row a variant: n seeds shared with the baseline, mean, sd, 95 % interval, p, Holm's p, verdict.

    Where the seeds allow a verdict, the interval is that of the test itself and agrees with it; where they do not,
    there is no p, and the interval is Student's.
    """
    columns = paired(runs, metric=metric, baseline=baseline)
    columns[baseline] = np.nan  # its differences to itself say nothing
    draws = [columns[name].dropna().to_numpy(dtype=float) for name in columns]
    table = pd.DataFrame(
        {
            "variant": list(columns),
            "n": [len(d) for d in draws],
            "mean": [d.mean() if d.size else np.nan for d in draws],
            "sd": [d.std(ddof=1) if d.size > 1 else np.nan for d in draws],
            "p": [statistics.sign_flip_p(d) if d.size else np.nan for d in draws],
        }
    )
    table["p_holm"] = statistics.holm(table["p"])
    table["verdict"] = statistics.verdicts(table["p_holm"], n=[len(d) for d in draws])
    table.loc[table["variant"] == baseline, "verdict"] = statistics.BASELINE
    half = statistics.half_width(table["sd"], n=table["n"])
    table["low"], table["high"] = table["mean"] - half, table["mean"] + half
    tested = table["verdict"].isin([statistics.DIFFERS, statistics.NOISE])
    levels = statistics.holm_levels(table["p"])
    for row in np.flatnonzero(tested):
        table.loc[row, ["low", "high"]] = statistics.sign_flip_interval(draws[row], level=levels[row])
    table.loc[~tested, ["p", "p_holm"]] = np.nan
    known = metric_of(metric)
    bounds = known.bounds if known else (-np.inf, np.inf)
    most = bounds[1] - bounds[0]
    table[["low", "high"]] = table[["low", "high"]].clip(-most, most)
    return table[["variant", "n", "mean", "sd", "low", "high", "p", "p_holm", "verdict"]]

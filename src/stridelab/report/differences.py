"""Paired differences: every variant against a baseline, seed by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

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
    """One row a variant: n seeds shared with the baseline, mean, sd, 95 % t-interval, p, Holm's p, verdict."""
    columns = paired(runs, metric=metric, baseline=baseline)
    columns[baseline] = np.nan  # its differences to itself say nothing
    draws = [columns[name].dropna().to_numpy(dtype=float) for name in columns]
    others = [i for i, name in enumerate(columns) if name != baseline]
    n = np.array([len(d) for d in draws])
    mean = np.array([d.mean() if d.size else np.nan for d in draws])
    sd = np.array([d.std(ddof=1) if d.size > 1 else np.nan for d in draws])
    half = statistics.half_width(sd, n=n)
    p, p_holm = np.full(len(draws), np.nan), np.full(len(draws), np.nan)
    p[others] = [statistics.sign_flip_p(draws[i]) if draws[i].size else np.nan for i in others]
    p_holm[others] = statistics.holm(p[others])
    verdict = np.full(len(draws), statistics.BASELINE, dtype=object)
    verdict[others] = statistics.verdicts(p_holm[others], n=[int(count) for count in n[others]])
    return pd.DataFrame({
        "variant": list(columns), "n": n, "mean": mean, "sd": sd, "low": mean - half, "high": mean + half,
        "p": p, "p_holm": p_holm, "verdict": verdict,
    })  # fmt: skip

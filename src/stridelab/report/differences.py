"""Paired differences: every variant against a baseline, seed by seed."""

from __future__ import annotations

import numpy as np
import pandas as pd

from stridelab.report import statistics
from stridelab.report.table import measure_of, per_draw


def paired(runs: pd.DataFrame, *, metric: str, baseline: str) -> pd.DataFrame:
    """Differences to the baseline, seed by seed: rows = seeds, columns = variants, NaN where either run is missing."""
    order = list(runs["variant"].unique())
    if baseline not in order:
        raise ValueError(f"baseline={baseline!r} is not a variant of this sweep; choose one of {', '.join(order)}.")
    values = per_draw(runs)[metric].unstack("variant").reindex(columns=order)
    return values.sub(values[baseline], axis="index")


def differences(runs: pd.DataFrame, *, metric: str, baseline: str, margin: float = 0.0, looks: int = 1) -> pd.DataFrame:
    """One row a variant: n seeds shared with the baseline, mean, sd, Student's 95 % interval, p, corrected p, p of
    equivalence within `margin` (in the metric's own unit; 0: not asked), verdict; `sd_unpaired`, what the sd would be
    were seeds not shared, and `correlation` over them.

    There is no p where the seeds are too few for any below 0.05. `looks`: reports, this one included, that could have
    ended the search for a difference; either p is multiplied by them.
    """
    columns = paired(runs, metric=metric, baseline=baseline)
    values = per_draw(runs)[metric].unstack("variant").reindex(columns=columns.columns)
    columns[baseline] = np.nan  # its differences to itself say nothing
    draws = [columns[name].dropna() for name in columns]
    n = [len(d) for d in draws]
    table = pd.DataFrame({"variant": list(columns), "n": n})
    table["mean"] = [d.mean() if len(d) else np.nan for d in draws]
    table["sd"] = [d.std(ddof=1) if len(d) > 1 else np.nan for d in draws]
    table["sd_unpaired"] = [
        np.hypot(*(values.loc[d.index, name].std(ddof=1) for name in (str(d.name), baseline))) if len(d) > 1 else np.nan
        for d in draws
    ]
    table["correlation"] = (table["sd_unpaired"] ** 2 - table["sd"] ** 2) / (
        2 * np.array([_product_of_sds(values.loc[d.index, [d.name, baseline]]) for d in draws])
    )
    half = statistics.half_width(table["sd"], n=n)
    table["low"], table["high"] = table["mean"] - half, table["mean"] + half
    table["p"] = [statistics.sign_flip_p(d) if len(d) else np.nan for d in draws]
    table["p_corrected"] = np.minimum(looks * statistics.corrected(table["p"]), 1.0)
    equivalent = statistics.equivalence_p(table["mean"], table["sd"], n=n, margin=margin)
    table["p_equivalent"] = np.minimum(looks * statistics.corrected(equivalent), 1.0)
    table["verdict"] = statistics.verdicts(table["p_corrected"], p_equivalent=table["p_equivalent"], n=n)
    table.loc[table["variant"] == baseline, "verdict"] = statistics.BASELINE
    table.loc[[values[name].isna().all() for name in columns], "verdict"] = statistics.ABSENT
    few = np.array(n) < statistics.seeds_needed(sum(count > 0 for count in n))
    table.loc[few, ["p", "p_corrected"]] = np.nan
    least, most = measure_of(metric).bounds
    table[["low", "high"]] = table[["low", "high"]].clip(least - most, most - least)
    return table


def against_baseline(runs: pd.DataFrame, *, metric: str, baseline: str, margin: float, looks: int) -> pd.DataFrame:
    """`differences` as the table of variants has them: variant, `difference_seeds`, `difference_mean`, ... `margin`: in
    the metric's shown unit."""
    in_its_unit = margin / measure_of(metric).factor
    found = differences(runs, metric=metric, baseline=baseline, margin=in_its_unit, looks=looks)
    return (
        found.rename(columns={"n": "seeds"}).add_prefix("difference_").rename(columns={"difference_variant": "variant"})
    )


def _product_of_sds(pair: pd.DataFrame) -> float:
    product = float(np.prod(pair.std(ddof=1).to_numpy())) if len(pair) > 1 else 0.0
    return product or np.nan

"""The front of accuracy and cost: which variants no cheaper one beats, and how sure that is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stridelab.report.speed import column_of
from stridelab.report.table import per_draw

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

COSTS = {"cost/macs": "MACs", "latency/batch1_ms": "latency, ms", "memory/peak_mib": "peak memory, MiB"}
DRAWS = 2000


def front_table(comparison: Comparison) -> pd.DataFrame:
    """One row a variant with a result, cheapest first: `score` (mean), its costs, and for each cost `on_front/<cost>`:
    in which share of bootstrap draws of the seeds no variant of no more cost is as good."""
    scores = per_draw(comparison.runs)[comparison.metric].unstack("variant").reindex(columns=comparison.names)
    scores = scores.dropna(axis="columns", how="all")
    table = pd.DataFrame({"variant": scores.columns, "score": scores.mean().to_numpy()})
    known = comparison.variants.set_index("variant").reindex(scores.columns)
    means = bootstrapped(comparison.measure.sign * scores.to_numpy(dtype=float))
    for cost in COSTS:
        column = column_of(comparison, cost)
        values = known[column].to_numpy(dtype=float) if column in known else np.full(len(table), math.nan)
        table[cost] = values
        table[f"on_front/{cost}"] = share_on_front(means, values)
    return table.sort_values("cost/macs", kind="stable", ignore_index=True)


def bootstrapped(scores: Any) -> Any:
    """Means [draw, variant] over seeds drawn with replacement, the same for all variants; a seed that a variant lacks
    is left out of its mean."""
    rows = np.random.default_rng(0).integers(len(scores), size=(DRAWS, len(scores)))
    drawn = scores[rows]
    count = np.isfinite(drawn).sum(axis=1)
    return np.where(count > 0, np.nansum(drawn, axis=1) / np.maximum(count, 1), math.nan)


def share_on_front(means: Any, costs: Any) -> Any:
    """Of each variant; NaN where its cost is not known."""
    order = [int(at) for at in np.argsort(costs, kind="stable") if np.isfinite(costs[at])]
    found = np.full(len(costs), math.nan)
    for at in order:
        beaten = np.zeros(len(means), dtype=bool)
        for other in order:
            if costs[other] < costs[at]:
                beaten |= means[:, other] >= means[:, at]
            elif costs[other] == costs[at]:
                beaten |= means[:, other] > means[:, at]
        found[at] = float((np.isfinite(means[:, at]) & ~beaten).mean())
    return found

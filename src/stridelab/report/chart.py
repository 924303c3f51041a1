"""What the page's script needs to draw the chart, and to compare with another baseline: plain data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from stridelab.report.answer import fits
from stridelab.report.differences import against_baseline
from stridelab.report.figures.style import looks
from stridelab.report.sentences import difference_text, verdict_text
from stridelab.report.table import ROWS, records

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

MOST_BASELINES = 12


def chart_data(comparison: Comparison) -> dict[str, Any]:
    """The variants with their seeds, and the table's cells against each of at most 12 baselines."""
    metric, shown, look = comparison.measure, comparison.shown(ROWS), looks(comparison)
    rows = [comparison.by_variant[name] for name in shown]
    seeds = comparison.scores(comparison.metric).groupby("variant")
    return {
        "metric": comparison.metric_heading,
        "baseline": comparison.short(comparison.baseline),
        "variants": [
            {
                "name": comparison.short(row["variant"]),
                "full": row["variant"],
                "maps": row["maps"] if isinstance(row["maps"], str) else "",
                "x": _number(row.get("cost/macs", math.nan)),
                **{key: _number(metric.factor * row[f"{comparison.metric}_{key}"]) for key in ("mean", "low", "high")},
                "seeds": [
                    [str(draw), _number(metric.factor * value)]
                    for draw, value in seeds.get_group(row["variant"])[["draw", "value"]].itertuples(index=False)
                ]
                if row["variant"] in seeds.groups
                else [],
                "color": look[row["variant"]].color,
                "front": row["pareto"] == "front",
                "fits": fits(row, comparison),
            }
            for row in rows
        ],
        "against": {comparison.short(name): _against(comparison, name, shown) for name in shown[:MOST_BASELINES]},
    }


def _against(comparison: Comparison, baseline: str, shown: list[str]) -> dict[str, list[str]]:
    """Of each variant: difference and verdict, as the table shows them."""
    found = against_baseline(
        comparison.runs,
        metric=comparison.metric,
        baseline=baseline,
        margin=comparison.margin,
        looks=1 + len(comparison.earlier),
    )
    rows = {row["variant"]: row for row in records(found)}
    return {
        comparison.short(name): [difference_text(rows[name], comparison.measure), verdict_text(rows[name])]
        for name in shown
    }


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None

"""Effects of the keys of a grid: main effects and interactions, and the mean of every pair of levels."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stridelab.report.factors import effects, factors
from stridelab.report.figures.style import OKABE_ITO, NothingToDraw, forest_axes, headline, new_figure, plain
from stridelab.report.sentences import interval_text, p_text, seeds_text, value_text
from stridelab.report.statistics import DIFFERS

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

ROWS, MAPS = 18, 3
WITH = " with "
"""Between the two of an interaction."""
LINE = 36
"""Characters of a label; a longer one of an interaction has two lines."""


def factor_effects(comparison: Comparison) -> Figure:
    """What each level changes and what two do together; below, the pairs of keys whose interaction is largest."""
    table = effects(comparison)
    if table.empty:
        raise NothingToDraw(
            "The variants are no grid of two keys or more whose effects can be told apart: no factor view."
        )
    main, pairs = table[table["kind"] == "main"], table[table["kind"] != "main"]
    order = pairs["mean"].abs().sort_values(ascending=False, kind="stable").index
    shown = pd.concat([main, pairs.loc[order]]).head(ROWS)
    told = [tuple(pair.split(WITH)) for pair in dict.fromkeys(pairs.loc[order, "factors"])]
    maps = told or list(itertools.combinations(factors(comparison), 2))
    figure = new_figure(1.9 + 0.3 * len(shown) + 2.3)
    grid = figure.add_gridspec(2, MAPS, height_ratios=[0.3 * len(shown) + 0.5, 2.0])
    _forest(figure.add_subplot(grid[0, :]), shown, comparison)
    for place, pair in enumerate(maps[:MAPS]):
        _heat_map(figure.add_subplot(grid[1, place]), pair, comparison)
    note = (
        f"Least squares over the grid, seed by seed (n = {seeds_text(shown['n'])}): mean, Student's 95 % interval. "
        f"Against {plain(comparison.short(comparison.baseline))}: what the level changes, the other keys held; "
        f"'with': what two changes do beyond their sum. p: sign flips, corrected over {len(table)} effects. Below: "
        "means over variants and seeds."
    )
    left = f" {len(shown)} of {len(table)} effects are shown." if len(shown) < len(table) else ""
    headline(figure, f"What each key does to {comparison.metric_text}", note=note + left)
    return figure


def _forest(axes: Axes, shown: pd.DataFrame, comparison: Comparison) -> None:
    metric = comparison.measure
    texts = []
    for y, row in enumerate(shown.to_dict("records")):
        mean, low, high = (metric.factor * row[key] for key in ("mean", "low", "high"))
        color = OKABE_ITO[0] if row["kind"] == "main" else OKABE_ITO[1]
        if math.isfinite(low):
            axes.plot([low, high], [y, y], color=color, linewidth=1.6)
        filled = color if row["verdict"] == DIFFERS else "white"
        axes.plot(mean, y, "o", color=color, markersize=6.5, markerfacecolor=filled)
        p = f"  {p_text(row['p_corrected'])}" if row["p_corrected"] >= 0 else ""
        texts.append(interval_text(row["mean"], row["low"], row["high"], metric) + p)
    forest_axes(axes, [_label(effect) for effect in shown["effect"]], texts)
    axes.set_xlabel(f"effect on {comparison.metric_text} ({metric.difference_unit()})".replace(" ()", ""))


def _label(effect: str) -> str:
    parts = [plain(part) for part in effect.split(WITH)]
    return WITH.join(parts) if len(effect) <= LINE else "\nwith ".join(parts)


def _heat_map(axes: Axes, pair: tuple[str, str], comparison: Comparison) -> None:
    table = factors(comparison).assign(score=comparison.variants.set_index("variant")[f"{comparison.metric}_mean"])
    cells = table.pivot_table(index=pair[0], columns=pair[1], values="score", sort=False)
    values = cells.to_numpy()
    axes.imshow(values, cmap="cividis", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        color = "#111111" if value > middle else "#f4f4f4"
        text = value_text(value, math.nan, comparison.measure)
        axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=color)
    axes.set_xticks(range(len(cells.columns)), [plain(level, limit=10) for level in cells.columns])
    axes.set_yticks(range(len(cells.index)), [plain(level, limit=10) for level in cells.index])
    axes.set_xlabel(plain(pair[1], limit=28))
    axes.set_ylabel(plain(pair[0], limit=28))
    axes.grid(visible=False)
    axes.tick_params(length=0)

"""What the variants get wrong: accuracy of each class against the baseline's, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stridelab.report.figures.style import (
    NothingToDraw,
    headline,
    in_lines,
    labels,
    left_out,
    new_figure,
    num_lines,
    plain,
)
from stridelab.report.mistakes import Mistakes, by_class, confusion

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

ROWS, CLASSES, TITLE_LIMIT = 12, 20, 36


def class_accuracy(comparison: Comparison) -> Figure:
    """Above, the difference of each class's accuracy to the baseline's; below, the confusions that change most."""
    found = comparison.mistakes
    if found is None or comparison.baseline not in found.predicted:
        raise NothingToDraw("No finished run kept its predictions of the test images (only task=classify does).")
    if len(found.class_names) > CLASSES:
        raise NothingToDraw(f"More than {CLASSES} classes are not drawn: report.mistakes.by_class has them all.")
    table = by_class(found, comparison.baseline)
    paired = set(table.loc[table["n"] > 0, "variant"]) - {comparison.baseline}
    others = [name for name in comparison.shown(ROWS) if name in paired]
    if not others:
        raise NothingToDraw("No other variant kept its predictions of a seed of the baseline's.")
    tested = list(table["class"].unique())
    rows = labels(comparison, others, limit=28)
    height = 0.15 * (num_lines(rows) + 1) * len(others)
    figure = new_figure(1.9 + height + 4.0)
    grid = figure.add_gridspec(2, 2, height_ratios=[height + 0.5, 4.0])
    wide = table.pivot(index="variant", columns="class", values="difference").loc[others, tested]
    solid = ((table["low"] > 0) | (table["high"] < 0)).to_numpy()
    sure = table.assign(sure=solid).pivot(index="variant", columns="class", values="sure").loc[others, wide.columns]
    _differences(figure.add_subplot(grid[0, :]), wide.to_numpy(float), sure.to_numpy(bool), rows, tested)
    worst = others[int(wide.to_numpy(float).mean(axis=1).argmin())]
    for place, name in enumerate((comparison.baseline, worst)):
        axes = figure.add_subplot(grid[1, place])
        _confusion(axes, found, name)
        title = plain(comparison.short(name), limit=3 * TITLE_LIMIT)
        axes.set_title(in_lines(title, TITLE_LIMIT), fontsize=9.5, fontweight="normal")
    headline(
        figure,
        f"Accuracy of each class, in points against {plain(comparison.short(comparison.baseline))}",
        note="Means over seeds, paired; bold: Student's 95 % interval of that class excludes 0 (not corrected for the "
        "number of classes). Below: of the images of a class (row), how many in 100 are taken for another (column), "
        "over all seeds; the baseline and the variant that loses most, or gains least. "
        f"{left_out(len(others), len(paired), 'are shown')}",
    )
    return figure


def _differences(axes: Axes, values: np.ndarray, sure: np.ndarray, rows: Sequence[str], tested: Sequence[str]) -> None:
    top = max(float(np.abs(values).max()), 1e-3)
    axes.imshow(values, cmap="RdBu", vmin=-top, vmax=top, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        color = "#f4f4f4" if abs(value) > 0.6 * top else "#111111"
        weight = "bold" if sure[row, column] else "normal"
        text = f"{100 * value:+.1f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=8, color=color, fontweight=weight)
    axes.set_xticks(range(len(tested)), [plain(name, limit=12) for name in tested], rotation=30, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)
    axes.tick_params(length=0)


def _confusion(axes: Axes, found: Mistakes, variant: str) -> None:
    table = 100 * confusion(found, variant)
    np.fill_diagonal(table, np.nan)
    top = max(float(np.nanmax(table)), 1.0)
    axes.imshow(table, cmap="Oranges", vmin=0, vmax=top)
    for (row, column), value in np.ndenumerate(table):
        if value >= 0.95:
            color = "#f4f4f4" if value > 0.6 * top else "#111111"
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=7, color=color)
    names = [plain(name, limit=12) for name in found.class_names]
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.tick_params(length=0)

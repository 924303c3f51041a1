"""What each variant costs, as multiples of the baseline."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from numpy.typing import NDArray

from stridelab.report.figures.style import (
    INK,
    Look,
    NothingToDraw,
    headline,
    labels,
    left_out,
    looks,
    new_figure,
    num_lines,
    plain,
)
from stridelab.report.sentences import times
from stridelab.report.speed import column_of, measured_how
from stridelab.text import human

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

COSTS = {
    "cost/macs": "MACs an image",
    "cost/params": "Parameters",
    "memory/saved_activations_mib": "Saved activations a batch, MiB",
    "throughput/train_images_per_s": "Training speed, images/s (more is better)",
    "latency/batch1_ms": "Latency of one image, ms",
    "memory/peak_mib": "Peak memory, MiB",
}
"""Metric -> panel title, in panel order."""
ALONE = {
    "benchmark/training_batch256_images_per_s": "Training speed alone, images/s (more is better)",
    "benchmark/forward_batch1_ms": "Latency of one image, alone, ms",
}
"""Titles of what is shown in place of these where the variants were measured apart from training."""
ROWS = 12
_NAME_LIMIT = 34


def costs(comparison: Comparison) -> Figure:
    """One panel a cost: bars from 1x (the baseline) on one doubling scale for all panels, and the value itself."""
    table = comparison.variants.set_index("variant")
    columns = {name: column_of(comparison, name) for name in COSTS}
    present = [
        name for name, column in columns.items()
        if column in table and table[column].get(comparison.baseline, math.nan) > 0
    ]  # fmt: skip
    if not present:
        raise NothingToDraw("The baseline has no finished run that logged a cost.")
    names, look = comparison.shown(ROWS), looks(comparison)
    values = table.loc[names, [columns[name] for name in present]].to_numpy(dtype=float)
    ratios = values / table.loc[comparison.baseline, [columns[name] for name in present]].to_numpy(dtype=float)
    tall = math.ceil(len(present) / 2)
    rows = labels(comparison, names, limit=_NAME_LIMIT)
    figure = new_figure(0.85 + tall * (0.55 + (0.09 + 0.12 * num_lines(rows)) * len(names)))
    grid = figure.subplots(tall, 2, sharex=True, sharey=True, squeeze=False)
    for panel, (axes, name) in enumerate(zip(grid.flat, present, strict=False)):
        axes.set_title(ALONE.get(columns[name], COSTS[name]), fontweight="normal", fontsize=9.5)
        _ratio_bars(axes, ratios[:, panel], [look[name] for name in names])
        _values(axes, ratios[:, panel], values[:, panel])
    for axes in list(grid.flat)[len(present) :]:
        axes.set_visible(False)
    _doubling_axis(grid[0, 0], np.log2(ratios[np.isfinite(ratios) & (ratios > 0)]))
    grid[0, 0].set_yticks(range(len(names)), rows)
    grid[0, 0].set_ylim(len(names) - 0.4, -0.6)
    headline(
        figure,
        f"Cost as a multiple of {plain(comparison.short(comparison.baseline))}",
        note="One doubling scale for all panels. MACs, parameters and saved activations follow from the variant; the "
        f"rest was measured: speed {measured_how(comparison)}. "
        f"{left_out(len(names), len(table), 'are shown')}",
    )
    return figure


def _ratio_bars(axes: Axes, ratios: NDArray[np.float64], styles: list[Look]) -> None:
    logs = np.log2(np.where(ratios > 0, ratios, 1.0))
    axes.barh(range(len(logs)), logs, height=0.62, color=[style.color for style in styles])
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)


def _values(axes: Axes, ratios: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    """Two columns of text right of the bars: the multiple and the value."""
    for y, (ratio, value) in enumerate(zip(ratios, values, strict=True)):
        for x, text in ((0.78, times(ratio)), (1.0, human(value))):
            axes.text(x, y, text, transform=axes.get_yaxis_transform(), ha="right", va="center", fontsize=8)


def _doubling_axis(axes: Axes, logs: NDArray[np.float64]) -> None:
    """Ticks at whole doublings, five or six of them; the right two fifths stay free for the values."""
    low, high = min(0.0, float(logs.min())), max(0.0, float(logs.max()))
    span = max(high - low, 0.5)
    axes.set_xlim(low - 0.03 * span, high + 0.8 * span)
    step = math.ceil(span / 5)
    whole = [t for t in range(math.floor(low), math.ceil(high) + 1) if t % step == 0]
    ticks = whole if span > 2.5 else [math.log2(ratio) for ratio in (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4)]
    axes.xaxis.set_major_locator(FixedLocator([t for t in ticks if low - 0.03 * span <= t <= high]))
    axes.xaxis.set_major_formatter(FuncFormatter(_multiple))


def _multiple(logarithm: float, _position: object = None) -> str:
    """4x, 0.75x, 1/8."""
    ratio = 2.0**logarithm
    return f"{ratio:g}x" if ratio > 0.2 else f"1/{1 / ratio:.0f}"

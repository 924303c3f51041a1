"""Accuracy: against its cost, and against the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import ScaledTranslation, Transform
from numpy.typing import NDArray

from stridelab.metrics import Metric
from stridelab.report.differences import paired
from stridelab.report.figures.style import (
    OTHER,
    Look,
    NothingToDraw,
    around,
    forest_axes,
    headline,
    labels,
    left_out,
    looks,
    new_figure,
    num_lines,
    plain,
    tick,
)
from stridelab.report.sentences import correction, difference_text, p_text, seeds_text
from stridelab.report.statistics import EXACT_SEEDS
from stridelab.text import as_heading, plural

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

ROWS = 16
APART_PT = 20.0
LEAST_POINTS = 0.5
"""An axis of shares spans at least this many percentage points."""


def accuracy_vs_macs(comparison: Comparison) -> Figure:
    """Every seed a dot, every variant's mean with its 95 % t-interval, and the Pareto front of the means."""
    metric, look, factor = comparison.metric, looks(comparison), comparison.measure.factor
    known = [row for row in comparison.by_variant.values() if row["pareto"]]
    if not known:
        raise NothingToDraw(f"No finished run has both cost/macs and {metric}.")
    named = [row for row in known if look[row["variant"]].named]
    figure = new_figure(4.4)
    axes = figure.add_subplot()
    shifts = _side_by_side(named)
    dots = _seed_dots(axes, comparison, look, shifts)
    marks = [_mean_mark(axes, row, comparison, look[row["variant"]], shift_pt=shifts[row["variant"]]) for row in named]
    for mark, text in zip(marks, labels(comparison, (row["variant"] for row in named)), strict=True):
        mark.set_label(text)
    for row in known:
        if row not in named:
            axes.plot(row["cost/macs"], factor * row[f"{metric}_mean"], "o", color=OTHER, markersize=4, zorder=1.5)
    front = sorted((row["cost/macs"], factor * row[f"{metric}_mean"]) for row in known if row["pareto"] == "front")
    axes.plot(*zip(*front, strict=True), color="#9a9a9a", linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    ends = np.array([[factor * row[f"{metric}_low"], factor * row[f"{metric}_high"]] for row in named])
    means = [factor * row[f"{metric}_mean"] for row in known]
    axes.set_ylim(*around([*means, *dots], wide=ends, least=least(comparison)))
    _log_x(axes, np.array([row["cost/macs"] for row in known]))
    axes.set_xlabel("multiply-accumulates of one image's forward pass (MACs, log scale)")
    axes.set_ylabel(f"{comparison.metric_text} ({comparison.measure.shown_unit})".replace(" ()", ""))
    bottom, top = axes.get_ylim()
    notes = [
        "Small dots: seeds. Large marks: means, with 95 % t-intervals over seeds, cut at what can be "
        f"(n = {seeds_text(row['n'] for row in known)}"
        f"{', cut at the edge' if ((ends < bottom) | (ends > top)).any() else ''}).",
        "Side by side: (nearly) equal MACs." if any(shifts.values()) else "",
        f"Dashed: the variants that none beats in both mean {comparison.metric_text} and MACs.",
        left_out(len(named), len(known), "are named, the others are grey"),
    ]
    headline(figure, f"{as_heading(comparison.metric_text)} against cost", note=" ".join(filter(None, notes)))
    best_first = sorted(marks, key=lambda mark: -float(np.asarray(mark.get_ydata())[0]))
    figure.legend(handles=best_first, loc="outside right upper", frameon=False, handletextpad=0.2)
    return figure


def _side_by_side(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """How far to move each variant's marks, in points, so that those of nearly equal MACs do not cover each other."""
    groups: list[list[dict[str, Any]]] = []
    for row in sorted(rows, key=lambda row: row["cost/macs"]):
        near = groups and row["cost/macs"] < 1.02 * groups[-1][0]["cost/macs"]
        groups[-1].append(row) if near else groups.append([row])
    return {
        row["variant"]: APART_PT * (place - (len(group) - 1) / 2) for group in groups for place, row in enumerate(group)
    }


def _seed_dots(axes: Axes, comparison: Comparison, look: dict[str, Look], shifts: dict[str, float]) -> list[float]:
    """Of the named variants, a little left of their mean's bar; their heights."""
    found: list[float] = []
    for name, scores in comparison.scores(comparison.metric).groupby("variant", sort=False):
        style, macs = look[str(name)], comparison.by_variant[str(name)].get("cost/macs", math.nan)
        if style.named and macs > 0:
            values = comparison.measure.factor * scores["value"]
            place = shifted(axes, x_pt=shifts[str(name)] - 7)
            axes.scatter([macs] * len(values), values, s=16, linewidths=0, alpha=0.55, zorder=2, color=style.color,
                         transform=place)  # fmt: skip
            found += values.tolist()
    return found


def _mean_mark(axes: Axes, row: dict[str, Any], comparison: Comparison, style: Look, *, shift_pt: float) -> Line2D:
    factor, place = comparison.measure.factor, shifted(axes, x_pt=shift_pt)
    y, low, high = (factor * row[f"{comparison.metric}_{key}"] for key in ("mean", "low", "high"))
    if math.isfinite(low):
        ends = [[y - low], [high - y]]
        axes.errorbar(row["cost/macs"], y, yerr=ends, color=style.color, elinewidth=1.4, capsize=3, zorder=3,
                      transform=place)  # fmt: skip
    (mark,) = axes.plot(
        row["cost/macs"], y, style.marker, color=style.color, markersize=8, markeredgecolor="white", zorder=4,
        transform=place,
    )  # fmt: skip
    return mark


def shifted(axes: Axes, *, x_pt: float) -> Transform:
    """Data coordinates, moved by some points."""
    return axes.transData + ScaledTranslation(x_pt / 72, 0, axes.figure.dpi_scale_trans)


def least(comparison: Comparison) -> float:
    """What an axis spans at least, in the shown unit."""
    if comparison.measure.is_share:
        return LEAST_POINTS
    return 1e-3 * abs(comparison.by_variant[comparison.baseline][f"{comparison.metric}_mean"]) or 1e-9


def _log_x(axes: Axes, values: NDArray[np.float64]) -> None:
    low, high = float(values.min()), float(values.max())
    room = max((high / low) ** 0.08, 1.25)
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=30))
    axes.xaxis.set_major_formatter(FuncFormatter(tick))
    axes.xaxis.set_minor_locator(NullLocator())
    if sum(low / room <= place <= high * room for place in axes.get_xticks()) < 2:
        axes.xaxis.set_major_locator(FixedLocator(sorted({low, high})))


def accuracy_differences(comparison: Comparison) -> Figure:
    """Paired differences to the baseline: every seed a dot, the mean with its 95 % t-interval, and the verdict."""
    others = [name for name in comparison.names if comparison.by_variant[name]["difference_seeds"] > 0]
    rows = [comparison.by_variant[name] for name in comparison.shown(ROWS + 1) if name in others]
    if not rows:
        raise NothingToDraw("No variant shares a finished seed with the baseline.")
    look, names, factor = looks(comparison), [row["variant"] for row in rows], comparison.measure.factor
    draws = factor * paired(comparison.runs, metric=comparison.metric, baseline=comparison.baseline)[names]
    called = labels(comparison, names)
    figure = new_figure(1.6 + max(0.42 if len(rows) <= 8 else 0.3, 0.14 * num_lines(called)) * len(rows))
    axes = figure.add_subplot()
    ends = np.array([[factor * row["difference_low"], factor * row["difference_high"]] for row in rows])
    axes.set_xlim(*around([0.0, *draws.to_numpy(dtype=float).ravel()], wide=ends, least=least(comparison)))
    for y, row in enumerate(rows):
        values = draws[row["variant"]].dropna().to_numpy(dtype=float)
        _forest_row(axes, y, row, values, look[row["variant"]], factor=factor)
    forest_axes(axes, called, [_forest_text(row, comparison.measure) for row in rows])
    test = "exact" if max(row["difference_seeds"] for row in rows) <= EXACT_SEEDS else "sampled"
    unit = "percentage points" if comparison.measure.is_share else comparison.measure.unit
    unit = f" ({unit})" if unit else ""
    axes.set_xlabel(f"difference in {comparison.metric_text} to {plain(comparison.short(comparison.baseline))}{unit}")
    headline(
        figure,
        "Paired differences, seed by seed",
        note="Dots: one seed's difference. Marker and line: mean and Student's 95 % interval (an arrow where it leaves "
        f"the picture), of that difference alone. p: {test} sign flips{correction(comparison).replace(' after', ',')}, "
        f"{plural(len(others), 'comparison')}. Intervals tell of seeds, not of the choice of test images. "
        f"{left_out(len(rows), len(others), 'are shown')}",
    )
    return figure


def _forest_row(
    axes: Axes, y: int, row: dict[str, Any], draws: NDArray[np.float64], style: Look, *, factor: float
) -> None:
    mean, low, high = (factor * row[f"difference_{key}"] for key in ("mean", "low", "high"))
    axes.scatter(draws, np.full(len(draws), y + 0.24), s=14, color=style.color, alpha=0.55, linewidths=0, zorder=2)
    if math.isfinite(low):
        axes.plot([low, high], [y, y], color=style.color, linewidth=1.6, zorder=3)
    axes.plot(mean, y, style.marker, color=style.color, markersize=7.5, markeredgecolor="white", zorder=4)
    left, right = axes.get_xlim()
    for end, edge, head in ((low, left, "<"), (high, right, ">")):
        if (end < edge) if edge == left else (end > edge):
            axes.plot(edge, y, head, color=style.color, markersize=6, clip_on=False, zorder=5)


def _forest_text(row: dict[str, Any], metric: Metric) -> str:
    p = f"{p_text(row['difference_p_corrected'])}  " if row["difference_p_corrected"] >= 0 else ""
    return f"{difference_text(row, metric)}   n={row['difference_seeds']:.0f}  {p}{row['difference_verdict']}"

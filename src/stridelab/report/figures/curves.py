"""Learning curves: every variant's mean a thick line, its runs thin ones; many runs a band."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from stridelab.metrics import METRICS
from stridelab.report.figures.style import (
    OTHER,
    Look,
    NothingToDraw,
    headline,
    labels,
    looks,
    new_figure,
    tick,
)
from stridelab.text import as_heading
from stridelab.training.tasks import TASKS, LearningTask

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison


class CurvePanel(NamedTuple):
    metric: str
    title: str
    factor: float


NAME_LIMIT = 32
MOST_LINES = 12
"""More runs of a variant become a band: lines would cover the other variants."""
BAND = (0.1, 0.9)
"""Its quantiles."""


def panel_of(task: LearningTask) -> CurvePanel:
    measure = METRICS[f"final/val_{task.primary}"]
    return CurvePanel(f"val/{task.primary}", f"{as_heading(measure.label)} ({measure.shown_unit})", measure.factor)


PANELS = (*map(panel_of, TASKS.values()), CurvePanel("train/loss", "Training loss", 1.0))
"""Those whose metric some run has are drawn: a task has one of the first."""


def learning_curves(comparison: Comparison) -> Figure:
    """The task's validation metric and training loss by epoch; names at the right, in the colours of both panels."""
    curves = {panel: comparison.curves(panel.metric) for panel in PANELS}
    curves = {panel: table for panel, table in curves.items() if len(table)}
    if not curves:
        raise NothingToDraw("No finished run logged val/acc or train/loss by epoch.")
    look = looks(comparison)
    short = dict(zip(look, labels(comparison, look, limit=NAME_LIMIT), strict=True))
    figure = new_figure(4.0)
    grid = np.atleast_1d(figure.subplots(1, len(curves)))
    for axes, (panel, table) in zip(grid, curves.items(), strict=True):
        means = _draw_panel(axes, table, panel, look, short)
    headline(figure, "Learning curves", note=_note(next(iter(curves.values())), look))
    as_they_end = sorted(means, key=lambda mean: -float(np.asarray(mean.get_ydata())[-1]))
    figure.legend(handles=as_they_end, loc="outside right upper", frameon=False)
    return figure


def curve_table(comparison: Comparison) -> pd.DataFrame:
    found = [comparison.curves(panel.metric).assign(metric=panel.metric) for panel in PANELS]
    return pd.concat([one for one in found if len(one)])


def _draw_panel(
    axes: Axes, table: Any, panel: CurvePanel, look: dict[str, Look], short: dict[str, str]
) -> list[Line2D]:
    lines = []
    named = table["variant"].map(lambda name: look[name].named)
    _thin_lines(axes, _wide(table[~named], panel), OTHER, alpha=0.25)
    for name, runs in table[named].groupby("variant", sort=False):
        style = look[name]
        wide = _wide(runs, panel)
        if wide.shape[1] > MOST_LINES:
            low, high = (wide.quantile(share, axis="columns") for share in BAND)
            axes.fill_between(wide.index, low, high, color=style.color, alpha=0.2, linewidth=0)
        else:
            _thin_lines(axes, wide, style.color, alpha=0.4)
        mean = wide.mean(axis="columns")
        lines += axes.plot(
            mean.index, mean, color=style.color, linewidth=2.0, zorder=3, label=short[str(name)],
            marker=style.marker, markersize=5, markevery=[len(mean) - 1],
        )  # fmt: skip
    axes.set_title(panel.title, fontweight="normal", fontsize=9.5)
    axes.set_xlabel("epoch")
    axes.grid(visible=False, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8, min_n_ticks=1))
    axes.yaxis.set_major_formatter(FuncFormatter(tick))
    first, last = table["step"].min(), table["step"].max()
    if first == last:
        axes.set_xlim(first - 0.5, last + 0.5)
    return lines


def _wide(runs: Any, panel: CurvePanel) -> Any:
    """Steps x runs."""
    return panel.factor * runs.pivot_table(index="step", columns="run_id", values="value", aggfunc="last")


def _thin_lines(axes: Axes, wide: Any, color: str, *, alpha: float) -> None:
    if wide.size:
        axes.plot(wide.index, wide.to_numpy(), color=color, linewidth=0.7, alpha=alpha)


def _note(table: Any, look: dict[str, Look]) -> str:
    runs = table.groupby("variant")["run_id"].nunique()
    most = max((int(count) for name, count in runs.items() if look[str(name)].named), default=0)
    spread = "Band: the middle 80 % of seeds." if most > MOST_LINES else "Thin: each seed."
    others = "" if all(look[str(name)].named for name in runs.index) else " Grey: every run of the other variants."
    ended = " that had not ended" if table.groupby("run_id")["step"].max().nunique() > 1 else ""
    return f"Thick: mean over seeds{ended}. {spread}{others}"

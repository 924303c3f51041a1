"""How sure each variant's place on the front of accuracy and cost is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from stridelab.report.figures.style import OKABE_ITO, NothingToDraw, headline, labels, new_figure, num_lines
from stridelab.report.front import COSTS, DRAWS, front_table

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

ROWS = 15


def front(comparison: Comparison) -> Figure:
    """A bar a variant and cost: the share of bootstrap draws in which it is on the front; cheapest first."""
    table = front_table(comparison)
    costs = [cost for cost in COSTS if table[f"on_front/{cost}"].notna().any()]
    if not costs:
        raise NothingToDraw("No run finished: there is no front of accuracy and cost.")
    sure = table[[f"on_front/{cost}" for cost in costs]].max(axis=1).to_numpy()
    shown = table.loc[sorted(np.argsort(-sure, kind="stable")[:ROWS])]
    rows = labels(comparison, shown["variant"], limit=34)
    figure = new_figure(1.5 + 0.12 * (num_lines(rows) + 1) * len(shown))
    panels = figure.subplots(1, len(costs), sharey=True, squeeze=False)[0]
    for axes, cost in zip(panels, costs, strict=True):
        axes.barh(range(len(shown)), 100 * shown[f"on_front/{cost}"].fillna(0), height=0.62, color=OKABE_ITO[0])
        axes.set_title(COSTS[cost], fontweight="normal", fontsize=9.5)
        axes.set_xlim(0, 100)
        axes.set_xticks([0, 50, 100])  # more would run into the next panel's
        axes.set_xlabel("% of draws")
        axes.grid(visible=False, axis="y")
    panels[0].set_yticks(range(len(shown)), rows)
    panels[0].set_ylim(len(shown) - 0.4, -0.6)
    headline(
        figure,
        "How often each is on the front",
        note=f"Share of {DRAWS:,} bootstrap draws of the seeds in which no variant of no more cost is as good. "
        "Cheapest in MACs first.",
    )
    return figure

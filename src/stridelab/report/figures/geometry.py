"""How the maps shrink and the receptive field grows: the drawing of the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stridelab.geometry.drawing import Panel, draw
from stridelab.report.figures.style import NothingToDraw, left_out
from stridelab.text import printable

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

ROWS = 8
NAME_LIMIT = 100


def geometry(comparison: Comparison) -> str:
    """Every map to scale, with its padding and what one unit sees of it; an SVG document."""
    known = comparison.geometries
    shown = [name for name in comparison.shown(ROWS) if known.get(name)]
    if not shown:
        raise NothingToDraw("No run logged its geometry.")
    panels = [Panel(printable(comparison.short(name), limit=NAME_LIMIT), known[name]) for name in shown]
    rest = left_out(len(shown), len(comparison.names), "are shown")
    if rest:
        panels[-1] = Panel(panels[-1].name, panels[-1].layers, remarks=[rest])
    return draw(panels)

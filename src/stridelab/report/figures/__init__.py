"""The figures of a comparison, by name."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure

from stridelab.report.figures.accuracy import accuracy_differences, accuracy_vs_macs
from stridelab.report.figures.cost import costs
from stridelab.report.figures.curves import learning_curves
from stridelab.report.figures.feature_maps import feature_maps_first, feature_maps_last
from stridelab.report.figures.ladder import geometry_ladder
from stridelab.report.figures.style import NothingToDraw, drawing

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

__all__ = ["FIGURES", "NothingToDraw", "draw", "render"]


class Drawing(NamedTuple):
    function: Callable[[Comparison], Figure]
    alt: str
    """What the picture shows, for those who cannot see it."""


FIGURES: dict[str, Drawing] = {
    "accuracy_vs_macs": Drawing(accuracy_vs_macs, "Accuracy of every variant and seed against its MACs."),
    "accuracy_differences": Drawing(accuracy_differences, "Paired accuracy differences to the baseline."),
    "costs": Drawing(costs, "Bars: each variant's costs as multiples of the baseline's."),
    "geometry_ladder": Drawing(geometry_ladder, "Map sizes to scale, layer by layer, for each variant."),
    "learning_curves": Drawing(learning_curves, "Validation accuracy and training loss by epoch."),
    "feature_maps_last": Drawing(feature_maps_last, "Feature maps of one image after training, side by side."),
    "feature_maps_first": Drawing(feature_maps_first, "Feature maps of one image before training, side by side."),
}
"""Name, also of the file -> function from a comparison to a figure; it raises NothingToDraw when data is missing."""


def draw(comparison: Comparison, name: str) -> Figure:
    if name not in FIGURES:
        raise ValueError(f"figure={name!r} is not known; choose one of {', '.join(FIGURES)}.")
    with drawing():
        return FIGURES[name].function(comparison)


def render(figure: Figure) -> bytes:
    """PNG with two pixels for each pixel shown at 100 %."""
    buffer = BytesIO()
    with drawing():
        figure.savefig(buffer, format="png")
    return buffer.getvalue()

"""The figures of a comparison, by name."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from stridelab.report import factors
from stridelab.report.answer import verdict
from stridelab.report.figures.accuracy import accuracy_differences, accuracy_vs_macs
from stridelab.report.figures.classes import class_accuracy
from stridelab.report.figures.cost import costs
from stridelab.report.figures.curves import curve_table, learning_curves
from stridelab.report.figures.effects import factor_effects
from stridelab.report.figures.feature_maps import feature_maps_first, feature_maps_last
from stridelab.report.figures.front import front
from stridelab.report.figures.geometry import geometry, layer_table, redrawn
from stridelab.report.figures.style import DARK, NothingToDraw, drawing
from stridelab.report.front import front_table
from stridelab.report.mistakes import by_class
from stridelab.report.sentences import best

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

__all__ = ["FIGURES", "NothingToDraw", "ReportFigure", "draw", "render"]


FORMATS = ("svg", "pdf", "png")
NO_DATE: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""The same figure is the same file."""


class ReportFigure(NamedTuple):
    function: Callable[[Comparison], Figure | str]
    """A matplotlib figure or an SVG document. It raises NothingToDraw when data is missing."""
    heading: str
    """Of the section of the notebook that shows it."""
    alt: str
    """What the picture shows, for those who cannot see it."""
    caption: str = ""
    """A sentence above it."""
    applies: Callable[[Comparison], bool] = lambda comparison: True
    """To this sweep; otherwise it has no section."""
    numbers: Callable[[Comparison], pd.DataFrame] | None = None
    """Those in it, for a CSV file beside it. Feature maps are in the runs' artifacts."""
    result: Callable[[Comparison], str] = lambda comparison: ""
    """What there is to see, in a sentence."""


FIGURES: dict[str, ReportFigure] = {
    "accuracy_differences": ReportFigure(
        accuracy_differences,
        "How sure: paired differences",
        "Paired differences to the baseline.",
        "Every variant against the baseline, seed by seed: for one seed both start from the same weights and see the "
        "same batches, so what is common to both cancels.",
        numbers=lambda c: c.variants.filter(regex="^variant$|^difference_"),
        result=verdict,
    ),
    "factor_effects": ReportFigure(
        factor_effects,
        "What each key does",
        "Effect of every swept key and layer, and of pairs of them.",
        applies=factors.is_grid,
        numbers=factors.effects,
    ),
    "accuracy_vs_macs": ReportFigure(
        accuracy_vs_macs,
        "Accuracy and cost",
        "Result of every variant and seed against its MACs.",
        numbers=lambda c: c.scores(c.metric).merge(c.variants.filter(["variant", "cost/macs"])),
        result=best,
    ),
    "costs": ReportFigure(
        costs,
        "Accuracy and cost",
        "Bars: each variant's costs as multiples of the baseline's.",
        numbers=lambda c: c.variants.filter(regex="^variant$|^cost/|^memory/|^throughput/|^latency/|^benchmark/"),
    ),
    "front": ReportFigure(
        front,
        "Accuracy and cost",
        "Bars: how often each variant is on the front of accuracy and each cost.",
        numbers=front_table,
    ),
    "class_accuracy": ReportFigure(
        class_accuracy,
        "What they get wrong",
        "Accuracy of each class against the baseline's, and confusions.",
        numbers=lambda c: by_class(c.mistakes, c.baseline) if c.mistakes else pd.DataFrame(),
    ),
    "geometry": ReportFigure(
        geometry, "Geometry", "Map sizes to scale, layer by layer, for each variant.", numbers=layer_table
    ),
    "learning_curves": ReportFigure(
        learning_curves, "Learning curves", "Validation results and training loss by epoch.", numbers=curve_table
    ),
    "feature_maps_first": ReportFigure(
        feature_maps_first,
        "Feature maps",
        "Feature maps of one image before training, side by side.",
        "The same image, layer and channels in every variant: first as they are before any training, where all "
        "variants have the same weights, then after it.",
    ),
    "feature_maps_last": ReportFigure(
        feature_maps_last, "Feature maps", "Feature maps of one image after training, side by side."
    ),
}
"""Name, also of the file -> what is drawn and said, in the order of the notebook. One line here adds a figure."""


def draw(comparison: Comparison, name: str) -> Figure | str:
    if name not in FIGURES:
        raise ValueError(f"figure={name!r} is not known; choose one of {', '.join(FIGURES)}.")
    with drawing():
        return FIGURES[name].function(comparison)


def render(figure: Figure | str) -> dict[str, bytes]:
    """By format: svg, pdf, and png with two pixels for each shown at 100 %."""
    found = {}
    with drawing():
        drawn = redrawn(figure) if isinstance(figure, str) else figure
        for kind in FORMATS:
            buffer = BytesIO()
            drawn.savefig(buffer, format=kind, transparent=kind == "svg", metadata=NO_DATE.get(kind))
            found[kind] = buffer.getvalue()
    found["svg"] = in_the_dark(figure.encode() if isinstance(figure, str) else found["svg"])
    return found


def in_the_dark(svg: bytes) -> bytes:
    """The same drawing, light on dark where the reader's screen is dark."""
    rules = "".join(
        f'[style*="{what}: {light}"],[{what}="{light}"]{{{what}:{dark} !important}}'
        for light, dark in DARK.items()
        for what in ("fill", "stroke")
    )
    style = f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    start = svg.index(b">", svg.index(b"<svg")) + 1
    return svg[:start] + style.encode() + svg[start:]

"""How the maps shrink and the receptive field grows: the drawing of the plan, and the same for PDF and PNG."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path as Outline

from stridelab.geometry.drawing import Panel, draw
from stridelab.report.figures.style import NothingToDraw, left_out
from stridelab.text import printable

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

ROWS = 8
NAME_LIMIT = 100
PX_PER_IN = 120.0
"""Of the drawing: 1,120 px are 9.3 inches."""


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


def layer_table(comparison: Comparison) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"variant": name, "layer": one.name, "kind": one.kind, "output": one.output_size, "macs": one.macs}
            for name, layers in comparison.geometries.items()
            for one in layers
        ]
    )


def redrawn(svg: str) -> Figure:
    """A drawing of `geometry.drawing`, for the formats that it does not write itself."""
    root = ElementTree.fromstring(svg)  # our own, a line before
    width, height = (float(root.attrib[side]) for side in ("width", "height"))
    figure = Figure(figsize=(width / PX_PER_IN, height / PX_PER_IN))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    for order, element in enumerate(root):
        kind = element.tag.rpartition("}")[2]
        if kind in ELEMENTS and not element.get("width", "").endswith("%"):
            ELEMENTS[kind](axes, element.attrib, element.text or "", order)
    return figure


def _rect(axes: Axes, given: Mapping[str, str], _text: str, order: int) -> None:
    x, y, width, height = _box(given)
    axes.add_patch(Rectangle((x, y), width, height, **_paint(given, order)))


def _path(axes: Axes, given: Mapping[str, str], _text: str, order: int) -> None:
    vertices: list[tuple[float, float]] = []
    codes: list[int] = []
    for letter, numbers in re.findall(r"([MLHhv])([^MLHhv]*)", given["d"]):
        values = [float(number) for number in numbers.split()]
        x, y = vertices[-1] if vertices else (0.0, 0.0)
        first = values[0] or 1e-3  # a line of no length is a dot, but not to matplotlib
        vertices.append({"H": (first, y), "h": (x + first, y), "v": (x, y + first)}.get(letter, (first, values[-1])))
        codes.append(int(Outline.MOVETO if letter == "M" else Outline.LINETO))
    if not vertices:
        return  # no unit is centred on the image
    paint = _paint(given, order) | {"capstyle": given.get("stroke-linecap", "butt").replace("square", "projecting")}
    axes.add_patch(PathPatch(Outline(vertices, codes), **paint))


def _text(axes: Axes, given: Mapping[str, str], text: str, order: int) -> None:
    anchor = {"start": "left", "middle": "center"}[given["text-anchor"]]
    paper = {"boxstyle": "square,pad=0.05", "facecolor": given["stroke"], "edgecolor": "none", "alpha": 0.8}
    axes.text(float(given["x"]), float(given["y"]), text, color=given["fill"], ha=anchor, va="baseline", zorder=order,
              fontsize=0.93 * float(given["font-size"]) * 72 / PX_PER_IN, fontweight=int(given["font-weight"]),
              bbox=paper)  # fmt: skip


def _image(axes: Axes, given: Mapping[str, str], _text: str, order: int) -> None:
    x, y, width, height = _box(given)
    pixels = plt.imread(BytesIO(b64decode(given["href"].partition(",")[2])), format="png")
    axes.imshow(pixels, cmap="gray", extent=(x, x + width, y + height, y), zorder=order, interpolation="nearest")
    axes.set(xlim=axes.get_xlim(), aspect="auto")


ELEMENTS: dict[str, Any] = {"rect": _rect, "path": _path, "text": _text, "image": _image}


def _box(given: Mapping[str, str]) -> tuple[float, ...]:
    return tuple(float(given[side]) for side in ("x", "y", "width", "height"))


def _paint(given: Mapping[str, str], order: int) -> dict[str, Any]:
    fill, stroke = (given[key] for key in ("fill", "stroke"))
    dashes = [float(length) for length in given.get("stroke-dasharray", "").split()]
    return {
        "facecolor": fill, "edgecolor": stroke, "alpha": float(given["opacity"]), "zorder": order,
        "linewidth": float(given["stroke-width"]) * 72 / PX_PER_IN, "linestyle": (0, dashes) if dashes else "-",
    }  # fmt: skip

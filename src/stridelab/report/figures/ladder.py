"""How the maps shrink and the receptive field grows, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stridelab.report.figures.style import GREY, INK, NOTE_PT, TITLE_PT, NothingToDraw, left_out, looks, plain, wrapped
from stridelab.report.table import drawn_layers, side_text

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

ROWS, COLUMNS = 8, 8
MAP_IN, LADDER_IN = 0.62, 1.53
"""Inches of the largest map's side, and from one ladder to the next."""


class Ladder(NamedTuple):
    """One variant's maps."""

    name: str
    color: str
    layers: list[Mapping[str, Any]]


def geometry_ladder(comparison: Comparison) -> Figure:
    """Every map to scale, layer by layer, with its size, stride and receptive field."""
    look = looks(comparison)
    ladders = [
        Ladder(name, look[name].color, _telling(layers))
        for name in comparison.shown(ROWS)
        if (layers := drawn_layers(comparison.geometries.get(name, [])))
    ]
    if not ladders:
        raise NothingToDraw("No run logged geometry.json.")
    longest = max(len(ladder.layers) for ladder in ladders)
    abreast = 2 if longest < COLUMNS // 2 and len(ladders) > 1 else 1
    width, height = 8.0, 0.9 + LADDER_IN * math.ceil(len(ladders) / abreast)
    figure = Figure(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))  # in inches, from the top left
    axes.set_axis_off()
    for index, ladder in enumerate(ladders):
        x = 0.08 + (index % abreast) * width / abreast
        _draw_ladder(axes, ladder, x=x, y=0.5 + LADDER_IN * (index // abreast))
    axes.text(0.08, 0.1, "What each layer keeps and sees", fontsize=TITLE_PT, fontweight="bold", va="top")
    note = (
        "Maps to scale, height x width in pixels. Pad: before+after where they differ. RF: receptive field of one "
        "unit, in pixels of the image (bold: larger than it)."
    )
    rest = left_out(len(ladders), len(comparison.names), "are shown")
    axes.text(0.08, height - 0.08, wrapped(f"{note} {rest}", figure), fontsize=NOTE_PT, color=GREY, va="bottom")
    return figure


def _telling(layers: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a deep network the first and last layer and those that change the map's size; some of them if still many."""
    if len(layers) <= COLUMNS:
        return layers
    ends = (layers[0]["name"], layers[-1]["name"])
    changes = [layer for layer in layers if layer["name"] in ends or layer["input_size"] != layer["output_size"]]
    picked = np.unique(np.linspace(0, len(changes) - 1, min(len(changes), COLUMNS)).round().astype(int))
    return [changes[i] for i in picked]


def _draw_ladder(axes: Axes, ladder: Ladder, *, x: float, y: float) -> None:
    image = ladder.layers[0]["input_size"]
    largest = max(max(image), *(max(layer["output_size"]) for layer in ladder.layers))
    axes.text(x, y, plain(ladder.name, limit=56), fontsize=9, fontweight="bold", va="top")
    floor, scale = y + 0.24 + MAP_IN, MAP_IN / largest
    _map(axes, x, floor, image, scale=scale, color="#c9c9c9")
    axes.text(x, floor + 0.05, "image", va="top", fontsize=8, color=GREY)
    for layer in ladder.layers:
        x += MAP_IN + 0.16
        _map(axes, x, floor, layer["output_size"], scale=scale, color=ladder.color)
        strided = max(layer["stride"]) > 1
        field, exceeds = _field(layer, image)
        lines = [
            (plain(layer["name"], limit=9), False),
            (f"stride {side_text(layer['stride'])}", strided),
            (_pad(layer["pad"]), False),
            (field, exceeds),
        ]
        for line, (text, strong) in enumerate(lines):
            weight = "bold" if strong and text == field else "normal"
            y_text = floor + 0.05 + 0.135 * line
            axes.text(x, y_text, text, va="top", fontsize=8, color=INK if strong else GREY, fontweight=weight)


def _map(axes: Axes, x: float, floor: float, size: tuple[int, int], *, scale: float, color: str) -> None:
    height, width = size
    axes.add_patch(Rectangle((x, floor - height * scale), width * scale, height * scale, facecolor=color, linewidth=0))
    inside = min(height, width) * scale > 0.45
    axes.text(
        x + width * scale / 2 if inside else x, floor - height * scale / 2 if inside else floor - height * scale - 0.03,
        f"{height}x{width}", ha="center" if inside else "left", va="center" if inside else "bottom", fontsize=8,
        color="white" if inside and _is_dark(color) else INK,
    )  # fmt: skip


def _pad(pad: tuple[tuple[int, int], tuple[int, int]]) -> str:
    """pad 1; pad 0+1; pad 1/0+1 where rows and columns differ."""
    axes = [str(before) if before == after else f"{before}+{after}" for before, after in pad]
    return f"pad {'/'.join(dict.fromkeys(axes))}"


def _is_dark(color: str) -> bool:
    return float(np.dot(to_rgb(color), (0.299, 0.587, 0.114))) < 0.55


def _field(layer: Mapping[str, Any], image: tuple[int, int]) -> tuple[str, bool]:
    field = layer["receptive_field"]
    if field is None:
        return "RF ?", False
    return f"RF {side_text(field)}", any(f > i for f, i in zip(field, image, strict=True))

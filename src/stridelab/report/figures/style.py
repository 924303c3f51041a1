"""One look for every figure: colours, type, numbers and names as plain text."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from stridelab.text import human, printable

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

WIDTH_IN = 8.0
DPI = 100
"""Pixels an inch on the screen at 100 %; files hold twice as many."""
TITLE_PT, NOTE_PT = 11.5, 8.0
TITLE_CHARS_AN_INCH, NOTE_CHARS_AN_INCH = 10, 16.8
INK, GREY, FAINT, OTHER = "#222222", "#6b6b6b", "#e4e4e4", "#b9b9b9"
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255")
"""Okabe and Ito's palette, told apart by colour-blind readers. Its yellow cannot be seen on white, and darkened it
becomes their orange: Tol's wine stands for it."""
DARK = {
    INK: "#e6e6e6", GREY: "#a8a8a8", FAINT: "#3a3a3a", "#8a8a8a": "#777777", "#000000": "#ffffff",
    "#ffffff": "#161616", "#0072b2": "#56a8e0", "#882255": "#d06a9d",
    "#212529": "#e6e6e6", "#6c757d": "#a8a8a8", "#f1f3f5": "#2a2a2a", "#ced4da": "#4a4a4a", "#a5d8ff": "#1d4f73",
}  # fmt: skip
"""Colour -> what stands for it on a dark screen; the last five are of geometry.drawing."""
MARKERS = "osD^vphd"

RC: dict[str, Any] = {
    "svg.hashsalt": "stridelab",  # the same ids each time
    "text.parse_math": False,  # a variant's name is text, not TeX
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlepad": 8.0,
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a8a8a",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "figure.dpi": DPI,
    "savefig.dpi": 2 * DPI,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "lines.solid_capstyle": "round",
}


class NothingToDraw(Exception):
    """The runs do not hold what a figure shows; its text says what is missing."""


class Look(NamedTuple):
    color: str
    marker: str
    named: bool
    """False: one of many, drawn in grey and without a label."""


def looks(comparison: Comparison) -> dict[str, Look]:
    """Colour and marker of every variant, the same in all figures.

    With more variants than colours only the ones that matter get one: see `Comparison.shown`.
    """
    named = comparison.shown(len(OKABE_ITO))
    found = {name: Look(OTHER, "o", named=False) for name in comparison.names}
    return found | {
        name: Look(color, marker, named=True) for name, color, marker in zip(named, OKABE_ITO, MARKERS, strict=False)
    }


def new_figure(height_in: float, *, width_in: float = WIDTH_IN) -> Figure:
    return Figure(figsize=(width_in, height_in), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))


def headline(figure: Figure, title: str, *, note: str = "") -> None:
    """A title above and a grey note below, both flush left."""
    title = textwrap.fill(title, width=int(figure.get_size_inches()[0] * TITLE_CHARS_AN_INCH))
    figure.suptitle(title, x=0.008, ha="left", fontsize=TITLE_PT, fontweight="bold")
    if note:
        figure.supxlabel(wrapped(note, figure), x=0.008, ha="left", fontsize=NOTE_PT, color=GREY)


def forest_axes(axes: Axes, names: Sequence[str], texts: Sequence[str]) -> None:
    """Rows from the top, a name to the left and a text to the right of each, about a line at 0."""
    places = range(len(names))
    axes.axvline(0, color=INK, linewidth=0.9, zorder=1)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_yticks(places, list(names))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    right = axes.secondary_yaxis("right")
    right.set_yticks(places, list(texts))
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)


def left_out(shown: int, count: int, how: str) -> str:
    """A sentence for a note; empty when nothing is left out."""
    return f"{shown} of {count:,} variants {how}." if shown < count else ""


def wrapped(note: str, figure: Figure) -> str:
    return textwrap.fill(note, width=int(figure.get_size_inches()[0] * NOTE_CHARS_AN_INCH))


def plain(text: object, *, limit: int = 44) -> str:
    """A name in a figure: see text.printable."""
    return printable(text, limit=limit)


def labels(comparison: Comparison, variants: Iterable[str], *, limit: int = 44) -> list[str]:
    """Short names beside rows: cut in the middle where that leaves them different, and else in lines."""
    names = [printable(comparison.short(variant)) for variant in variants]
    cut = [plain(name, limit=limit) for name in names]
    if len(set(cut)) == len(set(names)):
        return cut
    return [in_lines(name, limit) for name in names]


def in_lines(name: str, limit: int) -> str:
    """A variant's name; its strides stay together."""
    return textwrap.fill(printable(name), limit, break_on_hyphens=False)


def num_lines(texts: Iterable[str]) -> int:
    """Of the highest."""
    return max(text.count("\n") + 1 for text in texts)


def tick(value: float, _position: object = None) -> str:
    """As `human`, without zeros that say nothing: 20 M, 0.5."""
    number, _, unit = human(value).partition(" ")
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return f"{number} {unit}".rstrip()


def around(values: ArrayLike, *, least: float, wide: ArrayLike = ()) -> tuple[float, float]:
    """Axis limits that hold all `values`, and `wide` ones (interval ends) as far as three times the values' range.

    They are `least` apart or more. With two seeds an interval is nine times as wide as their distance: showing all
    of it would hide the seeds.
    """
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    span = max(high - low, least)
    ends = np.asarray(wide, dtype=float)
    ends = ends[np.isfinite(ends)]
    lower = max(min(low, ends.min(initial=low)), low - span)
    upper = min(max(high, ends.max(initial=high)), high + span)
    margin = 0.06 * (upper - lower)
    short = max(least - (upper - lower), 0.0) / 2
    return lower - margin - short, upper + margin + short


@contextmanager
def drawing() -> Iterator[None]:
    """The look, while a figure is made or rendered. A variant may be named in any script: a missing glyph is a box."""
    with mpl.rc_context(RC), warnings.catch_warnings():  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield

"""A drawing of what each variant does to an image: maps to scale, and what one unit sees of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, zip_longest
from textwrap import wrap
from typing import TextIO

from stridelab.text import human, human_bytes, side

from . import svg
from .maps import Rung, ladder
from .picture import CREDIT
from .placed import GRID, LINE, PADDING, SEEN, UNREAD, Placed, beams, reach, side_by_side
from .text import field
from .variant_row import Figures, Row

MOST = 12
"""Variants in one drawing."""
WIDTH, MARGIN, GAP, CAPTION = 1120, 24, 104, 72
"""GAP is between two maps, for the layer's name; CAPTION, what is left for a map, however small."""
LARGEST = 7.0
"""Drawn pixels for one pixel of the image, at most."""


def write(rows: Iterable[Row], out: TextIO) -> None:
    """ValueError for more variants than a person can take in."""
    shown = list(islice(rows, MOST + 1))
    if len(shown) > MOST:
        raise ValueError(
            f"format=svg draws {MOST} variants at most, and these arguments name more; give fewer, or choose "
            "another format."
        )
    out.writelines(drawing(shown))


def drawing(rows: Sequence[Row]) -> Iterable[str]:
    ladders = [ladder(row.figures) if row.figures else [] for row in rows]
    columns = columns_of(ladders)
    parts, y = [heading(rows)], MARGIN + 2.8 * LINE
    for row, rungs in zip(rows, ladders, strict=True):
        strip = Strip(row, rungs, columns, y)
        parts += strip.parts()
        y += strip.height
    parts += legend(y)
    width = max(WIDTH, columns.end + MARGIN)
    return svg.document(parts, width=width, height=y + 5.5 * LINE, title="The plan of a sweep")


def heading(rows: Sequence[Row]) -> str:
    sizes = {row.figures.image_size for row in rows if row.figures}
    what = f"a {side_by_side(*sizes)} image" if len(sizes) == 1 else "an image"
    return svg.text(f"What each layer does to {what}", x=MARGIN, y=MARGIN + LINE, size=22, weight=700)


@dataclass(frozen=True)
class Columns:
    """Where the maps of all variants start, so that they can be compared down the page."""

    before: Sequence[float]
    """Of each column, room in front of the map, in its pixels."""
    widths: Sequence[float]
    """Of the map and the room behind it."""
    scale: float
    """Drawn pixels for one pixel of any map."""

    def start(self, at: int) -> float:
        """Of the map at a place in its ladder."""
        widths = (max(CAPTION, width * self.scale) for width in self.widths[:at])
        return MARGIN + sum(self.before[: at + 1]) * self.scale + sum(widths) + at * GAP

    @property
    def end(self) -> float:
        return self.start(len(self.widths)) - GAP


def columns_of(ladders: Sequence[Sequence[Rung]]) -> Columns:
    before, widths = [], []
    for rungs in zip_longest(*ladders):
        here = [rung for rung in rungs if rung]
        before.append(max(reach(rung, 1)[0] for rung in here))
        widths.append(max(rung.size[1] + reach(rung, 1)[1] for rung in here))
    room = WIDTH - 2 * MARGIN - GAP * (len(widths) - 1)
    return Columns(before, widths, min(LARGEST, room / (sum(before) + sum(widths) or 1)))


@dataclass(frozen=True)
class Strip:
    """One variant's row of the drawing."""

    row: Row
    rungs: Sequence[Rung]
    columns: Columns
    top: float

    @property
    def words(self) -> list[tuple[str, str]]:
        """Lines and their colours, under the name."""
        figures = self.row.figures
        if figures is None:
            return [(line, UNREAD) for line in wrap(f"impossible: {self.row.error}", 150)]
        warned = [f"{name} ({', '.join(layers)})" if layers else name for name, layers in figures.warnings.items()]
        lines = [(line, svg.INK) for line in wrap(" ".join(sentences(figures)), 150)]
        return lines + [(line, UNREAD) for line in wrap("Warnings: " + "; ".join(warned), 150) if warned]

    @property
    def text_height(self) -> float:
        return LINE * (len(self.words) + 1.4)

    @property
    def map_height(self) -> float:
        return self.columns.scale * max((rung.size[0] + 2 * max(reach(rung, 0)) for rung in self.rungs), default=0)

    @property
    def height(self) -> float:
        captions = 2.2 * LINE if self.rungs else 0
        return self.text_height + self.map_height + captions + 1.6 * LINE

    def parts(self) -> Iterator[str]:
        yield svg.path(f"M{MARGIN} {self.top:.5g}H{WIDTH - MARGIN}", stroke=GRID)
        yield svg.text(self.row.name, x=MARGIN, y=self.top + 1.3 * LINE, size=16, weight=700)
        for at, (line, fill) in enumerate(self.words):
            yield svg.text(line, x=MARGIN, y=self.top + LINE * (2.4 + at), fill=fill)
        drawn = list(self.place())
        for one, other in pairwise(drawn):
            yield from beams(one, other)
        for at, placed in enumerate(drawn):
            yield from placed.parts(self.row.figures if at == 0 else None)
        for one, other in pairwise(drawn):
            yield from label(one, other, top=self.top + self.text_height + 1.6 * LINE)

    def place(self) -> Iterator[Placed]:
        axis = self.top + self.text_height + LINE + self.map_height / 2
        scale = self.columns.scale
        for at, rung in enumerate(self.rungs):
            y = axis - rung.size[0] * scale / 2
            yield Placed(rung, self.columns.start(at), y, scale, axis + self.map_height / 2)


def sentences(figures: Figures) -> Iterator[str]:
    last = figures.last_map
    if last is not None:
        step = f"; its neighbour, {side(last.effective_stride)} px further" if max(last.output_size) > 1 else ""
        yield f"A unit of the last map sees {field(last.receptive_field, figures.image_size)}{step}."
    yield (
        f"{human(figures.totals.params)} parameters, {human(figures.totals.macs)} MACs, "
        f"{human_bytes(figures.memory.total)} to train at batch {figures.batch_size}."
    )


def label(one: Placed, other: Placed, *, top: float) -> Iterator[str]:
    """The layer between two maps, in a few words a line."""
    left = one.x + (one.rung.size[1] + reach(one.rung, 1)[1]) * one.scale
    middle = (left + other.x - reach(other.rung, 1)[0] * other.scale) / 2
    for at, line in enumerate(other.rung.label):
        weight = 700 if at == 0 else 400
        yield svg.text(line, x=middle, y=top + LINE * at, size=12, weight=weight, anchor="middle")


def legend(y: float) -> Iterator[str]:
    swatches = (
        (SEEN, "what one unit, in the middle of the last map, sees of each map; dotted: it reaches further out"),
        (PADDING, "padding, added by the next layer"),
        (UNREAD, "rows and columns that the next layer never reads"),
    )
    yield svg.path(f"M{MARGIN} {y:.5g}H{WIDTH - MARGIN}", stroke=GRID)
    for at, (colour, words) in enumerate(swatches):
        line = y + LINE * (at + 1.3)
        yield svg.rect((MARGIN, line - 11, 14, 12), fill=colour, opacity=0.7)
        yield svg.text(words, x=MARGIN + 24, y=line)
    words = f"White dots: where the units of the last map are centred. All maps are drawn to one scale. {CREDIT}."
    yield svg.text(words, x=MARGIN, y=y + LINE * 4.4, fill=svg.FAINT, size=12)

"""A drawing of what each variant does to an image: maps to scale, and what one unit sees of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from textwrap import wrap
from typing import TextIO

from . import svg
from .ladder import Rung, ladder
from .picture import CREDIT, picture
from .row import Figures, Row
from .words import field, human, human_bytes, side

MOST = 12
"""Variants in one drawing."""
WIDTH, MARGIN, GAP = 1120, 24, 104
"""GAP is between two maps, for the layer's name."""
LINE = 18
LARGEST = 7.0
"""Drawn pixels for one pixel of the image, at most."""
OVERHANG = 0.3
"""How far beyond its map a field is drawn, as a share of the map; what is further out is left open."""
SEEN, PADDING, UNREAD, MAP, GRID = "#e8590c", "#a5d8ff", "#e03131", "#f1f3f5", "#ced4da"
"""Colours."""


def write_svg(rows: Iterable[Row], out: TextIO) -> None:
    """ValueError for more variants than a person can take in."""
    shown = list(islice(rows, MOST + 1))
    if len(shown) > MOST:
        raise ValueError(
            f"format=svg draws {MOST} variants at most, and these arguments name more; give fewer, or choose "
            "another format."
        )
    out.writelines(drawing(shown))


def drawing(rows: Sequence[Row]) -> Iterable[str]:
    ladders = {id(row): ladder(row.figures) for row in rows if row.figures}
    scale = min((scale_of(rungs) for rungs in ladders.values() if rungs), default=LARGEST)
    parts, y = [heading(rows)], MARGIN + 3.2 * LINE
    for row in rows:
        strip = Strip(row, ladders.get(id(row), []), scale, y)
        parts += strip.parts()
        y += strip.height
    parts += legend(y)
    return svg.document(parts, width=WIDTH, height=y + 5.5 * LINE, title="The plan of a sweep")


def heading(rows: Sequence[Row]) -> str:
    sizes = {row.figures.image_size for row in rows if row.figures}
    what = f"a {side_by_side(*sizes)} image" if len(sizes) == 1 else "an image"
    return svg.text(f"What each layer does to {what}", x=MARGIN, y=MARGIN + LINE, size=22, weight=700)


def side_by_side(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def scale_of(rungs: Sequence[Rung]) -> float:
    room = WIDTH - 2 * MARGIN - GAP * (len(rungs) - 1)
    return min(LARGEST, room / sum(sum(reach(rung, 1)) + rung.size[1] for rung in rungs))


def reach(rung: Rung, axis: int) -> tuple[float, float]:
    """How far before and behind a map something is drawn, in its pixels."""
    (first, last), size = rung.seen[axis], rung.size[axis]
    most = OVERHANG * size
    before, after = rung.pad[axis]
    return min(max(before, -first, 0), max(most, before)), min(max(after, last + 1 - size, 0), max(most, after))


@dataclass(frozen=True)
class Strip:
    """One variant's row of the drawing."""

    row: Row
    rungs: Sequence[Rung]
    scale: float
    top: float

    @property
    def words(self) -> list[tuple[str, str]]:
        """Lines and their colours, under the name."""
        figures = self.row.figures
        if figures is None:
            return [(line, UNREAD) for line in wrap(f"impossible: {self.row.error}", 150)]
        warned = [f"{name} ({', '.join(layers)})" for name, layers in figures.warnings.items()]
        lines = [(line, svg.INK) for line in wrap(" ".join(sentences(figures)), 150)]
        return lines + [(line, UNREAD) for line in wrap("Warnings: " + "; ".join(warned), 150) if warned]

    @property
    def text_height(self) -> float:
        return LINE * (len(self.words) + 1.4)

    @property
    def map_height(self) -> float:
        return self.scale * max((rung.size[0] + 2 * max(reach(rung, 0)) for rung in self.rungs), default=0)

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
            yield from arrow(one, other)

    def place(self) -> Iterator[Placed]:
        x, axis = float(MARGIN), self.top + self.text_height + LINE + self.map_height / 2
        for rung in self.rungs:
            before, after = reach(rung, 1)
            x += before * self.scale
            yield Placed(rung, x, axis - rung.size[0] * self.scale / 2, self.scale, axis + self.map_height / 2)
            x += (rung.size[1] + after) * self.scale + GAP


def sentences(figures: Figures) -> Iterator[str]:
    if figures.effective_stride is not None:
        yield (
            f"A unit of the last map sees {field(figures.receptive_field, figures.image_size)}; "
            f"its neighbour, {side(figures.effective_stride)} px further."
        )
    yield (
        f"{human(figures.totals.params)} parameters, {human(figures.totals.macs)} MACs, "
        f"{human_bytes(figures.memory.total)} to train at batch {figures.batch_size}."
    )


@dataclass(frozen=True)
class Placed:
    """A map with a place on the paper."""

    rung: Rung
    x: float
    y: float
    scale: float
    floor: float
    """Where captions start."""

    def box(self, rows: tuple[float, float], columns: tuple[float, float]) -> svg.Box:
        """Of (from, to) in the map's pixels."""
        s = self.scale
        return (
            self.x + columns[0] * s,
            self.y + rows[0] * s,
            (columns[1] - columns[0]) * s,
            (rows[1] - rows[0]) * s,
        )

    @property
    def whole(self) -> svg.Box:
        return self.box((0, self.rung.size[0]), (0, self.rung.size[1]))

    @property
    def padded(self) -> svg.Box:
        (top, bottom), (left, right) = self.rung.pad
        return self.box((-top, self.rung.size[0] + bottom), (-left, self.rung.size[1] + right))

    @property
    def seen(self) -> svg.Box:
        """As far as it is drawn."""
        return self.box(*(self.cut(axis)[0] for axis in (0, 1)))

    def cut(self, axis: int) -> tuple[tuple[float, float], tuple[bool, bool]]:
        """(from, to) of what is seen, and whether each end is where it is drawn."""
        (first, last), size = self.rung.seen[axis], self.rung.size[axis]
        before, after = reach(self.rung, axis)
        start, end = max(first, -before), min(last + 1, size + after)
        return (start, end), (start == first, end == last + 1)

    def parts(self, figures: Figures | None) -> Iterator[str]:
        """`figures`: draw the photograph, and the units of the last map on it."""
        yield svg.rect(self.padded, fill=PADDING)
        yield svg.rect(self.whole, fill=MAP)
        if figures:
            yield from self.photograph(figures)
        else:
            yield self.grid()
        yield svg.rect(self.whole, stroke=svg.FAINT)
        yield from self.unread()
        if not figures:
            yield svg.rect(self.seen, fill=SEEN, opacity=0.3)
        yield self.frame()
        caption = side_by_side(self.rung.size)
        lines = [f"{caption} px"] if figures else [caption, f"x {self.rung.channels}"]
        for at, line in enumerate(lines):
            middle = self.x + self.rung.size[1] * self.scale / 2
            yield svg.text(line, x=middle, y=self.floor + LINE * (at + 1.1), anchor="middle", fill=svg.FAINT)

    def photograph(self, figures: Figures) -> Iterator[str]:
        x, y, w, h = self.whole
        yield (
            f'<image href="{picture(self.rung.size)}" x="{x:.5g}" y="{y:.5g}" width="{w:.5g}" height="{h:.5g}" '
            'preserveAspectRatio="none" style="image-rendering:pixelated"/>'
        )
        left, top, width, height = self.seen
        dark = (
            f"M{x:.5g} {y:.5g}h{w:.5g}v{h:.5g}h{-w:.5g}z M{left:.5g} {top:.5g}v{height:.5g}h{width:.5g}v{-height:.5g}z"
        )
        yield f'<path d="{dark}" fill="#000" fill-rule="evenodd" opacity="0.45"/>'
        yield self.centres(figures)

    def centres(self, figures: Figures) -> str:
        """One dot a unit of the last map, where its field is centred."""
        last = figures.last_map
        if last is None or last.center is None or last.effective_stride is None:
            return ""
        down, across = (
            [centre + 0.5 + unit * step for unit in range(count)]
            for centre, step, count in zip(last.center, last.effective_stride, last.output_size, strict=True)
        )
        if min(last.effective_stride) * self.scale < 4:
            return ""
        dots = "".join(
            f"M{self.x + column * self.scale:.5g} {self.y + row * self.scale:.5g}h0"
            for row in down
            for column in across
        )
        return svg.path(dots, stroke="#fff", width=2.4, opacity=0.9, extra='stroke-linecap="round"')

    def grid(self) -> str:
        x, y, w, h = self.whole
        if self.scale < 4:
            return ""
        columns = (f"M{x + at * self.scale:.5g} {y:.5g}v{h:.5g}" for at in range(1, self.rung.size[1]))
        rows = (f"M{x:.5g} {y + at * self.scale:.5g}h{w:.5g}" for at in range(1, self.rung.size[0]))
        return svg.path("".join([*columns, *rows]), stroke=GRID, width=0.6)

    def unread(self) -> Iterator[str]:
        (top, bottom), (left, right) = self.rung.pad
        height, width = self.rung.size
        rows, columns = self.rung.unread
        for row in sorted(rows):
            yield svg.rect(self.box((row, row + 1), (-left, width + right)), fill=UNREAD, opacity=0.55)
        for column in sorted(columns):
            yield svg.rect(self.box((-top, height + bottom), (column, column + 1)), fill=UNREAD, opacity=0.55)

    def frame(self) -> str:
        """Around what is seen; open where it goes on."""
        x, y, w, h = self.seen
        (_, (top, bottom)), (_, (left, right)) = self.cut(0), self.cut(1)
        sides = [
            (top, f"M{x:.5g} {y:.5g}h{w:.5g}"),
            (bottom, f"M{x:.5g} {y + h:.5g}h{w:.5g}"),
            (left, f"M{x:.5g} {y:.5g}v{h:.5g}"),
            (right, f"M{x + w:.5g} {y:.5g}v{h:.5g}"),
        ]
        commands = "".join(side for closed, side in sides if closed)
        return svg.path(commands, stroke=SEEN, width=2.5, extra='stroke-linecap="square"') if commands else ""


def beams(one: Placed, other: Placed) -> Iterator[str]:
    """From what is seen of one map to what it becomes on the next."""
    x, y, w, h = one.seen
    to_x, to_y, _, to_h = other.seen
    for start, end in ((y, to_y), (y + h, to_y + to_h)):
        yield svg.path(f"M{x + w:.5g} {start:.5g}L{to_x:.5g} {end:.5g}", stroke=SEEN, opacity=0.6)


def arrow(one: Placed, other: Placed) -> Iterator[str]:
    """The layer's name and numbers, above the axis."""
    left = one.x + (one.rung.size[1] + reach(one.rung, 1)[1]) * one.scale
    middle = (left + other.x - reach(other.rung, 1)[0] * other.scale) / 2
    top = one.floor - max(one.rung.size[0], 1) * one.scale
    for at, line in enumerate(other.rung.label):
        weight = 700 if at == 0 else 400
        yield svg.text(line, x=middle, y=top + LINE * at, size=12, weight=weight, anchor="middle")


def legend(y: float) -> Iterator[str]:
    rows = (
        (SEEN, "what one unit, in the middle of the last map, sees of each map before it"),
        (PADDING, "padding, added by the next layer"),
        (UNREAD, "rows and columns that the next layer never reads"),
    )
    yield svg.path(f"M{MARGIN} {y:.5g}H{WIDTH - MARGIN}", stroke=GRID)
    for at, (colour, words) in enumerate(rows):
        line = y + LINE * (at + 1.3)
        yield svg.rect((MARGIN, line - 11, 14, 12), fill=colour, opacity=0.7)
        yield svg.text(words, x=MARGIN + 24, y=line)
    words = f"White dots: where the units of the last map are centred. All maps are drawn to one scale. {CREDIT}."
    yield svg.text(words, x=MARGIN, y=y + LINE * 4.4, fill=svg.FAINT, size=12)

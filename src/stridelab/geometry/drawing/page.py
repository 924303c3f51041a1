"""The page: a strip for each network, its maps to one scale, and what one unit of its last map sees."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from textwrap import wrap

from stridelab.geometry.drawing import svg
from stridelab.geometry.drawing.maps import Map, maps_of
from stridelab.geometry.drawing.placed_map import (
    CREDIT,
    GRID,
    LINE,
    PADDING,
    SEEN,
    UNREAD,
    PlacedMap,
    beams,
    reach,
    side_by_side,
)
from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.totals import totals
from stridelab.text import at_least, field, human, side

WIDTH, MARGIN, GAP, CAPTION = 1120, 24, 104, 72
"""GAP is between two maps, for the layer's name; CAPTION, what is left for a map, however small."""
LARGEST = 7.0
"""Drawn pixels for one pixel of the image, at most."""


@dataclass(frozen=True)
class Panel:
    """One network to draw."""

    name: str
    layers: Sequence[LayerGeometry]
    """Measured, in the plan's order; none for a network that cannot be built."""
    remarks: Sequence[str] = ()
    """Sentences under the name, after those that the layers tell."""
    warnings: Sequence[str] = ()
    """Lines in red."""

    def sentences(self) -> Iterator[str]:
        if not self.layers:
            return
        whole = totals(self.layers)
        last = whole.last_map
        if last is not None:
            step = f"; its neighbour, {side(last.effective_stride)} px further" if max(last.output_size) > 1 else ""
            yield f"A unit of the last map sees {field(last.receptive_field, self.layers[0].input_size)}{step}."
        params = at_least(whole.params, whole.params_at_least, human)
        macs = at_least(whole.macs, whole.macs_at_least, human)
        yield " ".join([f"{params} parameters, {macs} MACs.", *self.remarks])


def draw(panels: Sequence[Panel]) -> str:
    """An SVG document, under one another in the order given.

    >>> from stridelab.geometry import compose, layer
    >>> page = draw([Panel("one layer", compose([layer("conv", kernel_size=3)], input_size=9))])
    >>> page.startswith("<svg"), "A unit of the last map sees 3 of 9 px" in page
    (True, True)
    """
    maps = [maps_of(panel.layers) for panel in panels]
    columns = columns_of(maps)
    parts, y = [heading(panels)], MARGIN + 2.8 * LINE
    for panel, these in zip(panels, maps, strict=True):
        strip = Strip(panel, these, columns, y)
        parts += strip.parts()
        y += strip.height
    parts += legend(y)
    width = max(WIDTH, columns.end + MARGIN)
    return svg.document(parts, width=width, height=y + 5.5 * LINE, title="What strides and padding do to an image")


def heading(panels: Sequence[Panel]) -> str:
    sizes = {panel.layers[0].input_size for panel in panels if panel.layers}
    what = f"a {side_by_side(*sizes)} image" if len(sizes) == 1 else "an image"
    return svg.text(f"What each layer does to {what}", x=MARGIN, y=MARGIN + LINE, size=22, weight=700)


@dataclass(frozen=True)
class MapColumns:
    """Where the maps of all variants start, so that they can be compared down the page."""

    before: Sequence[float]
    """Of each column, room in front of the map, in its pixels."""
    widths: Sequence[float]
    """Of the map and the room behind it."""
    scale: float
    """Drawn pixels for one pixel of any map."""

    def start(self, at: int) -> float:
        """Of the map at a place in its strip."""
        widths = (max(CAPTION, width * self.scale) for width in self.widths[:at])
        return MARGIN + sum(self.before[: at + 1]) * self.scale + sum(widths) + at * GAP

    @property
    def end(self) -> float:
        return self.start(len(self.widths)) - GAP


def columns_of(strips: Sequence[Sequence[Map]]) -> MapColumns:
    before, widths = [], []
    for column in zip_longest(*strips):
        here = [this for this in column if this]
        before.append(max(reach(this, 1)[0] for this in here))
        widths.append(max(this.size[1] + reach(this, 1)[1] for this in here))
    room = WIDTH - 2 * MARGIN - GAP * (len(widths) - 1)
    return MapColumns(before, widths, min(LARGEST, room / (sum(before) + sum(widths) or 1)))


@dataclass(frozen=True)
class Strip:
    """One variant's row of the drawing."""

    panel: Panel
    maps: Sequence[Map]
    columns: MapColumns
    top: float

    @property
    def words(self) -> list[tuple[str, str]]:
        """Lines and their colours, under the name."""
        lines = [(line, svg.INK) for line in wrap(" ".join(self.panel.sentences()), 150)]
        return lines + [(line, UNREAD) for warning in self.panel.warnings for line in wrap(warning, 150)]

    @property
    def text_height(self) -> float:
        return LINE * (len(self.words) + 1.4)

    @property
    def map_height(self) -> float:
        return self.columns.scale * max((this.size[0] + 2 * max(reach(this, 0)) for this in self.maps), default=0)

    @property
    def height(self) -> float:
        captions = 2.2 * LINE if self.maps else 0
        return self.text_height + self.map_height + captions + 1.6 * LINE

    def parts(self) -> Iterator[str]:
        yield svg.path(f"M{MARGIN} {self.top:.5g}H{WIDTH - MARGIN}", stroke=GRID)
        yield svg.text(self.panel.name, x=MARGIN, y=self.top + 1.3 * LINE, size=16, weight=700)
        for at, (line, fill) in enumerate(self.words):
            yield svg.text(line, x=MARGIN, y=self.top + LINE * (2.4 + at), fill=fill)
        drawn = list(self.place())
        for one, other in pairwise(drawn):
            yield from beams(one, other)
        for at, placed in enumerate(drawn):
            yield from placed.parts(totals(self.panel.layers).last_map if at == 0 else None)
        for one, other in pairwise(drawn):
            yield from label(one, other, top=self.top + self.text_height + 1.6 * LINE)

    def place(self) -> Iterator[PlacedMap]:
        axis = self.top + self.text_height + LINE + self.map_height / 2
        scale = self.columns.scale
        for at, this in enumerate(self.maps):
            y = axis - this.size[0] * scale / 2
            yield PlacedMap(this, self.columns.start(at), y, scale, axis + self.map_height / 2)


def label(one: PlacedMap, other: PlacedMap, *, top: float) -> Iterator[str]:
    """The layer between two maps, in a few words a line."""
    left = one.x + (one.map.size[1] + reach(one.map, 1)[1]) * one.scale
    middle = (left + other.x - reach(other.map, 1)[0] * other.scale) / 2
    for at, line in enumerate(other.map.label):
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

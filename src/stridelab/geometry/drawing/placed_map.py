"""One map on the page: its padding, what is never read of it, and what the marked unit sees."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from stridelab.geometry.drawing import svg
from stridelab.geometry.drawing.maps import Map
from stridelab.geometry.layer_geometry import LayerGeometry
from stridelab.geometry.padding import Pair

LINE = 18
"""Height of a line of text."""
OVERHANG = 0.3
"""How far beyond its map a field is drawn, as a share of the map; the rest is left out."""
SEEN, PADDING, UNREAD, MAP, GRID = "#e8590c", "#a5d8ff", "#e03131", "#f1f3f5", "#ced4da"
"""Colours."""
CREDIT = "Photograph: an ankle boot of Fashion-MNIST, Zalando Research, MIT licence"
PHOTOGRAPH = Path(__file__).with_name("ankle_boot.png")
"""28x28 pixels, stretched to whatever the image is."""


@cache
def photograph() -> str:
    """As a data URI."""
    return f"data:image/png;base64,{b64encode(PHOTOGRAPH.read_bytes()).decode()}"


def side_by_side(size: Pair) -> str:
    return f"{size[0]} x {size[1]}"


def reach(this: Map, axis: int) -> tuple[float, float]:
    """How far before and behind a map something is drawn, in its pixels."""
    (first, last), size = this.seen[axis], this.size[axis]
    most = OVERHANG * size
    before, after = this.pad[axis]
    return min(max(before, -first, 0), max(most, before)), min(max(after, last + 1 - size, 0), max(most, after))


@dataclass(frozen=True)
class PlacedMap:
    """A map with a place on the paper."""

    map: Map
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
        return self.box((0, self.map.size[0]), (0, self.map.size[1]))

    @property
    def padded(self) -> svg.Box:
        (top, bottom), (left, right) = self.map.pad
        return self.box((-top, self.map.size[0] + bottom), (-left, self.map.size[1] + right))

    @property
    def seen(self) -> svg.Box:
        """As far as it is drawn."""
        return self.box(*(self.cut(axis)[0] for axis in (0, 1)))

    def cut(self, axis: int) -> tuple[tuple[float, float], tuple[bool, bool]]:
        """(from, to) of what is seen, and whether each end is where it is drawn."""
        (first, last), size = self.map.seen[axis], self.map.size[axis]
        before, after = reach(self.map, axis)
        start, end = (min(max(at, -before), size + after) for at in (first, last + 1))
        return (start, end), (start == first, end == last + 1)

    def parts(self, last: LayerGeometry | None) -> Iterator[str]:
        """`last`: this is the image; draw the photograph, and where the units of the last map are centred."""
        yield svg.rect(self.padded, fill=PADDING)
        yield svg.rect(self.whole, fill=MAP)
        if last:
            rendering = "pixelated" if self.map.size == (28, 28) else "auto"
            yield (
                f'<image href="{photograph()}" {svg.place(self.whole)} preserveAspectRatio="none" '
                f'style="image-rendering:{rendering}"/>'
            )
            yield from self.shade()
            yield self.centres(last)
        else:
            yield self.grid()
        yield svg.rect(self.whole, stroke=svg.FAINT)
        yield from self.unread()
        if not last:
            yield svg.rect(self.seen, fill=SEEN, opacity=0.3)
        yield from self.frame()
        caption = side_by_side(self.map.size)
        for at, line in enumerate([f"{caption} px"] if last else [caption, f"{self.map.channels} channels"]):
            middle = self.x + self.map.size[1] * self.scale / 2
            yield svg.text(line, x=middle, y=self.floor + LINE * (at + 1.1), anchor="middle", fill=svg.FAINT)

    def shade(self) -> Iterator[str]:
        """Over what is not seen."""
        height, width = self.map.size
        (top, bottom), (left, right) = (
            [min(max(edge, 0), size) for edge in self.cut(axis)[0]] for axis, size in enumerate(self.map.size)
        )
        above, below = ((0, top), (0, width)), ((bottom, height), (0, width))
        before, behind = ((top, bottom), (0, left)), ((top, bottom), (right, width))
        for rows, columns in (above, below, before, behind):
            if rows[0] < rows[1] and columns[0] < columns[1]:
                yield svg.rect(self.box(rows, columns), fill="#000", opacity=0.4)

    def centres(self, last: LayerGeometry) -> str:
        """One dot a unit of the last map, where its field is centred."""
        if last.center is None or last.effective_stride is None:
            return ""
        down, across = (
            [at for unit in range(count) if 0 < (at := centre + 0.5 + unit * step) < size]
            for centre, step, count, size in zip(
                last.center, last.effective_stride, last.output_size, self.map.size, strict=True
            )
        )
        size = min(3, min(last.effective_stride) * self.scale / 5)
        dots = "".join(
            f"M{self.x + column * self.scale:.5g} {self.y + row * self.scale:.5g}h0"
            for row in down
            for column in across
        )
        return svg.path(dots, stroke="#fff", width=size, opacity=0.9, extra='stroke-linecap="round"')

    def grid(self) -> str:
        x, y, w, h = self.whole
        if self.scale < 4:
            return ""
        columns = (f"M{x + at * self.scale:.5g} {y:.5g}v{h:.5g}" for at in range(1, self.map.size[1]))
        rows = (f"M{x:.5g} {y + at * self.scale:.5g}h{w:.5g}" for at in range(1, self.map.size[0]))
        return svg.path("".join([*columns, *rows]), stroke=GRID, width=0.6)

    def unread(self) -> Iterator[str]:
        (top, bottom), (left, right) = self.map.pad
        height, width = self.map.size
        rows, columns = self.map.unread
        for row in sorted(rows):
            yield svg.rect(self.box((row, row + 1), (-left, width + right)), fill=UNREAD, opacity=0.55)
        for column in sorted(columns):
            yield svg.rect(self.box((-top, height + bottom), (column, column + 1)), fill=UNREAD, opacity=0.55)

    def frame(self) -> Iterator[str]:
        """Around what is seen; dotted where it goes on."""
        x, y, w, h = self.seen
        if not w or not h:
            return
        (_, (top, bottom)), (_, (left, right)) = self.cut(0), self.cut(1)
        sides = (
            (top, f"M{x:.5g} {y:.5g}h{w:.5g}"),
            (bottom, f"M{x:.5g} {y + h:.5g}h{w:.5g}"),
            (left, f"M{x:.5g} {y:.5g}v{h:.5g}"),
            (right, f"M{x + w:.5g} {y:.5g}v{h:.5g}"),
        )
        for there, commands in sides:
            extra = 'stroke-linecap="square"' if there else 'stroke-dasharray="2 5"'
            yield svg.path(commands, stroke=SEEN, width=2.5, extra=extra)


def beams(one: PlacedMap, other: PlacedMap) -> Iterator[str]:
    """From what is seen of one map to what it becomes on the next."""
    x, y, w, h = one.seen
    to_x, to_y, to_w, to_h = other.seen
    if not (w and h and to_w and to_h):
        return
    for start, end in ((y, to_y), (y + h, to_y + to_h)):
        yield svg.path(f"M{x + w:.5g} {start:.5g}L{to_x:.5g} {end:.5g}", stroke=SEEN, opacity=0.6)

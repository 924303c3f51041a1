"""Columns of text whose widths are known before the last row is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from textwrap import wrap

GAP = "  "
LEAST = 12
"""Columns for what is wrapped, however narrow the terminal."""


@dataclass(frozen=True)
class Layout:
    headings: Sequence[str]
    """Two lines where there are two words."""
    widths: Sequence[int]
    width: int | None
    """Of the terminal, at which the last column is wrapped; None: nothing is wrapped."""
    left: frozenset[str]
    """Headings of words; figures are set to the right."""

    @classmethod
    def of(
        cls,
        headings: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        width: int | None,
        left: Iterable[str],
    ) -> Layout:
        """As wide as `rows` need; wider cells that come later push their neighbours aside."""
        parts = [max(map(len, heading.split(" ", 1))) for heading in headings]
        lengths = [parts, *([len(cell) for cell in cells] for cells in rows)]
        return cls(headings, [max(column) for column in zip(*lengths, strict=True)], width, frozenset(left))

    def head(self) -> str:
        lines = ([heading.partition(" ")[at] for heading in self.headings] for at in (0, 2))
        return "\n".join(text for text in map(self.line, lines) if text)

    def line(self, cells: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if heading in self.left else cell.rjust(width)
            for cell, width, heading in zip(cells, self.widths, self.headings, strict=True)
        ]
        return hanging(GAP.join(padded[:-1]) + GAP, cells[-1], self.width)

    def note(self, cells: Sequence[str], text: str) -> str:
        """The first cells of a row, and a sentence in place of the others."""
        padded = (cell.ljust(width) for cell, width in zip(cells, self.widths, strict=False))
        return hanging("".join(cell + GAP for cell in padded), text, self.width)


def hanging(start: str, text: str, width: int | None) -> str:
    """`text` behind `start`, wrapped so that it stays to the right of it."""
    if width is None or len(start) + len(text) <= width:
        return (start + text).rstrip()
    return start + ("\n" + " " * len(start)).join(wrap(text, max(LEAST, width - len(start)), break_long_words=False))

"""Tables for terminals, pipes and notebooks: one look, and no number is ever cut."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from textwrap import wrap
from typing import TYPE_CHECKING

from stridelab.text import printable

if TYPE_CHECKING:
    from rich.table import Table


GAP = "  "
LEAST_WRAPPED = 12
"""Columns for what is wrapped behind a row's start, however narrow the terminal."""
LEAST = 10
"""Columns for text that is wrapped, however narrow the terminal."""


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, words: Collection[str] = ()) -> Table:
    """A rich table. Columns named in `words` hold text: to the left, wrapped where the terminal is narrow. All others
    hold numbers: to the right, as wide as the widest, so that a table may be wider than the terminal; print it with
    `crop=False`."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    cells = [[printable(cell) for cell in row] for row in rows]
    found = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for heading, column in zip(headings, zip(*cells, strict=True) if cells else [()] * len(headings), strict=True):
        longest, widest = (max(map(len, texts), default=0) for texts in (heading.split(), column))
        if heading in words:
            found.add_column(Text(heading), overflow="fold", min_width=max(longest, min(widest, LEAST)))
        else:
            lines = wrap(heading, max(longest, widest), break_on_hyphens=False)
            found.add_column(Text("\n".join(lines)), justify="right", no_wrap=True, min_width=max(longest, widest))
    found.min_width = sum((column.min_width or 0) + 2 for column in found.columns) - 2
    for row in cells:
        found.add_row(*map(Text, row))
    return found


def fitted(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, words: Collection[str], width: int | None
) -> tuple[Table, list[str]]:
    """`table`, less as many columns, from the last on, as do not fit into `width` with their numbers whole, and the
    headings of those."""
    for count in range(len(headings), 1, -1):
        found = table(headings[:count], [row[:count] for row in rows], words=words)
        if width is None or (found.min_width or 0) <= width:
            return found, list(headings[count:])
    return table(headings[:1], [row[:1] for row in rows], words=words), list(headings[1:])


def as_text(rich_table: Table, *, width: int | None = None) -> str:
    """The table as plain lines; without a width, as wide as it needs."""
    from rich.console import Console

    out = StringIO()
    width = max(width, rich_table.min_width or 0) if width else 10_000
    console = Console(file=out, width=width, color_system=None, highlight=False, force_jupyter=False)
    console.print(rich_table, crop=False)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def as_html(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(printable(cell))}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(headings, 'th')}</thead><tbody>{body}</tbody></table>"


@dataclass(frozen=True)
class Columns:
    """Columns of plain text whose widths are known before the last row is: for a table that is read as it grows."""

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
    ) -> Columns:
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
    return start + ("\n" + " " * len(start)).join(
        wrap(text, max(LEAST_WRAPPED, width - len(start)), break_long_words=False)
    )

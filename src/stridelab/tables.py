"""Tables for terminals, pipes and notebooks: one look, and no number is ever cut."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape
from io import StringIO
from textwrap import wrap
from typing import TYPE_CHECKING

from stridelab.text import printable

if TYPE_CHECKING:
    from rich.table import Table


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

"""How a plan can be written: one function and one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

from rich.console import Console

from .drawing import write_svg
from .exchange import write_csv, write_json
from .markdown import write_markdown
from .row import Row
from .table import print_rows


def write_table(rows: Iterable[Row], out: TextIO) -> None:
    print_rows(rows, Console(file=out, highlight=False))


FORMATS: Mapping[str, Callable[[Iterable[Row], TextIO], None]] = {
    "table": write_table,
    "json": write_json,
    "csv": write_csv,
    "markdown": write_markdown,
    "svg": write_svg,
}
"""Each writes a row as soon as it gets it, but svg, which needs to know the largest first."""

SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown", ".svg": "svg"}
"""What `out=` says of the format where `format=` says nothing."""

"""How a plan can be written: one function and one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TextIO

from .json_csv import write_csv, write_json
from .table import write_rows
from .variant_row import Row


def write_markdown(rows: Iterable[Row], out: TextIO) -> None:
    from .markdown import write

    write(rows, out)


def write_svg(rows: Iterable[Row], out: TextIO) -> None:
    from .drawing import write

    write(rows, out)


FORMATS: Mapping[str, Callable[[Iterable[Row], TextIO], None]] = {
    "table": write_rows,
    "json": write_json,
    "csv": write_csv,
    "markdown": write_markdown,
    "svg": write_svg,
}
"""Each writes a row as soon as it gets it, but svg, which needs to know the largest first."""

SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown", ".svg": "svg"}
"""What `out=` says of the format where `format=` says nothing."""

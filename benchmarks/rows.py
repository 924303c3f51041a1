"""What a benchmark found: one figure a row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import NamedTuple, TextIO

from stridelab.text import three_digits


@dataclass(frozen=True, kw_only=True)
class Row:
    section: str
    name: str
    strides: str | None = None
    """As in a variant's name, 1-2-2."""
    batch: int | None = None
    value: float
    """The median of `n` measurements."""
    unit: str
    ratio: float | None = None
    """To the row that `name` speaks of."""
    n: int
    spread: float | None = None
    """The measurements' inter-quartile range, in the same unit; None of a single one."""


class Middle(NamedTuple):
    """Fields of a row."""

    value: float
    n: int
    spread: float | None


def middle_of(values: Sequence[float]) -> Middle:
    """Median, count and inter-quartile range."""
    if len(values) == 1:
        return Middle(values[0], 1, None)
    lower, middle, upper = quantiles(values, n=4, method="inclusive")
    return Middle(middle, len(values), upper - lower)


HEADINGS = {"name": "<", "strides": "<", "batch": ">", "value": ">", "unit": "<", "ratio": ">", "n": ">", "spread": ">"}
"""Columns of the table, and the side to which each is set."""


def print_rows(rows: Iterable[Row], out: TextIO) -> None:
    table = [list(HEADINGS), *([cell(asdict(row)[name]) for name in HEADINGS] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for cells in table:
        padded = (
            f"{text:{set_to}{width}}" for text, set_to, width in zip(cells, HEADINGS.values(), widths, strict=True)
        )
        out.write("  ".join(padded).rstrip() + "\n")


def cell(value: object) -> str:
    match value:
        case None:
            return ""
        case float():
            return three_digits(value)
    return str(value)


def write_json(rows: Iterable[Row], path: Path) -> None:
    path.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")

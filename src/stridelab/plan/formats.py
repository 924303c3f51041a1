"""How a plan can be written: one function and one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, TextIO

from .columns import sums
from .json_csv import write_csv, write_json
from .table import write_rows
from .variant_row import VariantRow

if TYPE_CHECKING:
    from stridelab.geometry.drawing import Panel


def write_markdown(rows: Iterable[VariantRow], out: TextIO) -> None:
    from .markdown import write

    write(rows, out)


MOST = 12
"""Variants in one drawing."""
MOST_IN_PAGE = 200
"""Variants to choose from in one page."""


def write_svg(rows: Iterable[VariantRow], out: TextIO) -> None:
    """ValueError for more variants than a person can take in."""
    from stridelab.geometry.drawing import draw

    shown = list(islice(rows, MOST + 1))
    if len(shown) > MOST:
        raise ValueError(
            f"format=svg draws {MOST} variants at most, and these arguments name more; give fewer, or choose "
            "another format."
        )
    out.write(draw([panel_of(row) for row in shown]))


def panel_of(row: VariantRow) -> Panel:
    from stridelab.geometry.drawing import Panel

    if row.figures is None:
        return Panel(row.name, (), warnings=[f"impossible: {row.error}"])
    warned = [f"{name} ({', '.join(layers)})" if layers else name for name, layers in row.figures.warnings.items()]
    return Panel(
        row.name,
        row.figures.layers,
        remarks=[f"{sums(row.figures)['training memory']} to train at batch {row.figures.batch_size}."],
        warnings=["Warnings: " + "; ".join(warned)] if warned else [],
    )


def write_html(rows: Iterable[VariantRow], out: TextIO) -> None:
    """The explorer's page without weights; ValueError where no variant is possible."""
    from stridelab.explorer.page import PageNetwork, explorer_page

    from .variant import layer_plan_of

    all_rows = list(rows)
    possible = [(row.name, row.figures.config) for row in all_rows if row.figures]
    if not possible:
        raise ValueError("format=html needs a variant that is possible; format=table gives the reasons.")
    networks = [PageNetwork(name or "the network", layer_plan_of(config)) for name, config in possible[:MOST_IN_PAGE]]
    said = ["networks before training"]
    if len(possible) > len(networks):
        said.append(f"the first {len(networks)} of {len(possible)}")
    if len(all_rows) > len(possible):
        said.append(f"without {len(all_rows) - len(possible)} that are not possible")
    out.write(explorer_page(networks, title="Stride explorer", subtitle=", ".join(said)))


FORMATS: Mapping[str, Callable[[Iterable[VariantRow], TextIO], None]] = {
    "table": write_rows,
    "json": write_json,
    "csv": write_csv,
    "markdown": write_markdown,
    "svg": write_svg,
    "html": write_html,
}
"""Each writes a row as soon as it gets it, but svg, which needs to know the largest first."""

SUFFIXES = {".json": "json", ".csv": "csv", ".md": "markdown", ".svg": "svg", ".html": "html"}
"""What `out=` says of the format where `format=` says nothing."""

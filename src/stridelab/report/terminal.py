"""The variant table for a terminal: numbers are whole, columns that do not fit are named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from stridelab.report import statistics
from stridelab.report.answer import choice, next_step, verdict
from stridelab.report.sentences import difference_text, needed, num_comparisons, runs_text, score_text
from stridelab.report.speed import column_of, measured_how
from stridelab.report.table import ROWS
from stridelab.tables import fitted
from stridelab.text import as_heading, printable, three_digits

if TYPE_CHECKING:
    from rich.table import Table

    from stridelab.report.comparison import Comparison


def print_variants(comparison: Comparison, console: Console) -> None:
    """Print the sweep's variants, what may be said of them, and the control check."""
    shown, dropped = variants_table(comparison, width=console.width if console.is_terminal else None)
    console.print(shown, crop=False)
    if dropped:
        console.print(f"Not shown, for the width: {', '.join(dropped)}; in the report.", style="dim")
    for sentence in _first(comparison):
        console.print(Text(printable(sentence)))
    for sentence in comparison.warnings:
        console.print(Text(printable(sentence), style="yellow"))
    for sentence in _below(comparison):
        console.print(Text(printable(sentence), style="dim" if comparison.controls.passed else ""))


def _first(comparison: Comparison) -> Iterator[str]:
    """As the report's first screen: the verdict, what to type next, what to choose."""
    yield verdict(comparison)
    command, takes = next_step(comparison)
    if takes:
        yield f"Next: {command} ({takes})" if command else takes
    yield from choice(comparison)


def variants_table(comparison: Comparison, *, width: int | None = None) -> tuple[Table, list[str]]:
    """One row a variant, and the headings that do not fit; names are text, never markup."""
    name = comparison.metric_text.replace("accuracy", "acc").replace("validation", "val")
    headings = [
        "variant",
        "n",
        f"{name} {comparison.measure.shown_unit}".strip(),
        "difference",
        "verdict",
        "MMACs",
        "RF",
        "maps",
        "img/s",
        "MiB",
    ]
    rows = [_cells(comparison.by_variant[name], comparison) for name in comparison.shown(ROWS)]
    return fitted(headings, rows, words=("variant", "maps"), width=width)


def _cells(row: dict[str, Any], comparison: Comparison) -> list[str]:
    return [
        printable(row["variant"], limit=200),
        runs_text(row),
        score_text(row, comparison),
        difference_text(row, comparison.measure),
        str(row["difference_verdict"]),
        _number(row.get("cost/macs"), lambda macs: three_digits(macs / 1e6)),
        _number(row.get("cost/receptive_field_px"), lambda px: f"{px:.0f}"),
        row["maps"] if isinstance(row["maps"], str) else "-",
        _number(row.get(column_of(comparison, "throughput/train_images_per_s")), lambda speed: f"{speed:,.0f}"),
        _number(row.get("memory/peak_mib_mean"), lambda mib: f"{mib:,.0f}"),
    ]


def _number(value: float | None, write: Callable[[float], str]) -> str:
    return "-" if value is None or math.isnan(value) else write(value)


def _below(comparison: Comparison) -> list[str]:
    variants = comparison.variants
    left_out = len(variants) - ROWS
    compared = num_comparisons(comparison)
    found = [f"{left_out:,} more variants are in the report."] if left_out > 0 else []
    if compared:
        against = f"{comparison.measure.difference_unit()} to {printable(comparison.baseline)}".lstrip()
        found.append(
            f"{as_heading(comparison.metric_text)}: mean \u00b1 sd over n seeds. Difference: {against}, "
            "paired by seed, [95 % interval]. MiB: peak memory. img/s: training "
            f"{measured_how(comparison)}."
        )
    if (variants["difference_verdict"] == statistics.TOO_FEW).any():
        found.append(needed(compared))
    return [*found, comparison.controls.sentence, *comparison.controls.caveats]

"""The variant table for a terminal of 100 columns or more."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stridelab.report import statistics
from stridelab.report.comparison import Comparison, compare
from stridelab.report.figures.style import plain, three_digits
from stridelab.report.sentences import accuracy_text, interval_text, needed, peak_memory_mib, runs_text
from stridelab.report.speed import column_of, measured_how

if TYPE_CHECKING:
    from stridelab.tracking.find import SweepRecord

ROWS = 40
STYLES = {statistics.DIFFERS: "bold", statistics.TOO_FEW: "dim", statistics.UNPAIRED: "dim", statistics.BASELINE: "dim"}


def print_variants(sweep: SweepRecord, console: Console, *, baseline: str | None = None) -> Comparison:
    """Print the sweep's variants, what may be said of them, and the control check; returns what it read."""
    comparison = compare(sweep, baseline=baseline)
    console.print(variants_table(comparison))
    for sentence in _below(comparison):
        console.print(Text(sentence, style="dim" if comparison.controls.passed else ""))
    return comparison


def variants_table(comparison: Comparison) -> Table:
    """One row a variant; names are text, never markup."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False, show_edge=False)
    table.add_column("variant", overflow="fold", min_width=14)
    table.add_column("n", justify="right")
    table.add_column(f"{comparison.metric_text.replace('accuracy', 'acc')} %", justify="right", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for name in ("MMACs", "RF", "maps", "img/s", "MiB"):
        table.add_column(name, justify="left" if name == "maps" else "right", overflow="fold")
    shown = set(comparison.shown(ROWS))
    for name, row in comparison.by_variant.items():
        if name in shown:
            table.add_row(*_cells(row, comparison))
    return table


def _cells(row: dict[str, Any], comparison: Comparison) -> list[Text]:
    mean, sd = (100 * row[f"{comparison.metric}_{name}"] for name in ("mean", "sd"))
    compared = row["variant"] != comparison.baseline and row["difference_seeds"] > 0
    verdict = str(row["difference_verdict"])
    cells = [
        plain(row["variant"], limit=200),
        runs_text(row),
        accuracy_text(mean, sd),
        interval_text(*(row[f"difference_{key}"] for key in ("mean", "low", "high"))) if compared else "",
        verdict,
        _number(row.get("cost/macs"), lambda macs: three_digits(macs / 1e6)),
        _number(row.get("cost/receptive_field_px"), lambda px: f"{px:.0f}"),
        row["maps"] if isinstance(row["maps"], str) else "-",
        _number(row.get(column_of(comparison, "throughput/train_images_per_s")), lambda speed: f"{speed:,.0f}"),
        _number(peak_memory_mib(row), lambda mib: f"{mib:,.0f}"),
    ]
    return [Text(cell, style=STYLES.get(verdict, "") if column == 4 else "") for column, cell in enumerate(cells)]


def _number(value: float | None, write: Callable[[float], str]) -> str:
    return "-" if value is None or math.isnan(value) else write(value)


def _below(comparison: Comparison) -> list[str]:
    table = comparison.variants
    left_out = len(table) - ROWS
    compared = int(table["difference_p"].notna().sum())
    found = [f"{left_out:,} more variants are in the report."] if left_out > 0 else []
    if compared:
        found.append(
            f"Accuracy: mean \u00b1 sd over n seeds. Difference: points to {plain(comparison.baseline)}, "
            f"paired by seed, [95 % interval]. MiB: peak memory. img/s: training {measured_how(comparison)}."
        )
    if (table["difference_verdict"] == statistics.TOO_FEW).any():
        found.append(needed(compared))
    return [*found, comparison.controls.sentence, *comparison.controls.caveats]

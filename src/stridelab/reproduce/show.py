"""What a person sees of a reproduction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stridelab.config import Config
from stridelab.text import printable
from stridelab.tracking.links import run_link, ui_base
from stridelab.tracking.mlflow_reader import RunRecord
from stridelab.tracking.sync import Mirror

from .surroundings import Finding, bits_expected, unpromised
from .verdict import CLOSE, DIFFERENT, IDENTICAL, Reproduction, Row, spelled

MARKS = {True: "[green]same[/]", False: "[yellow]differs[/]", None: "[yellow]unknown[/]"}
COLOURS = {IDENTICAL: "green", CLOSE: "yellow", DIFFERENT: "red"}


def show_findings(
    record: RunRecord, findings: Sequence[Finding], console: Console, *, config: Config, tolerance: float
) -> None:
    console.print(f"[bold]{escape(printable(record.name, limit=200))}[/]  {escape(record.run_id)}")
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        mark = "[dim]differs[/]" if finding.same is False and not finding.decides else MARKS[finding.same]
        table.add_row(f"  {escape(finding.what)}", mark, escape(finding.said))
    console.print(table)
    if bits_expected(findings, config):
        on_gpu = any(finding.what == "TF32" for finding in findings)
        kind = "GPU, driver, TF32" if on_gpu else "kind of CPU"
        console.print(f"Expected: bit-equal. Code, data, packages, {kind} and threads are those of the run.")
        return
    doubts = [finding.what for finding in findings if finding.decides and not finding.same]
    why = f": {', '.join([unpromised(config)] * bool(unpromised(config)) + doubts)}"
    console.print(
        f"Expected: not bit-equal{escape(why)}. Short runs may still agree within tolerance={tolerance:g}.",
        soft_wrap=True,
    )


def show_comparison(comparison: Reproduction, console: Console, *, expected: bool) -> None:
    table = Table(box=None, padding=(0, 2), header_style="bold")
    for heading in ("metric", "steps", "equal", "largest difference", "first step that differs: then, now"):
        table.add_column(heading, justify="right" if heading in ("steps", "equal", "largest difference") else "left")
    for digest in comparison.digests:
        was = digest.was[:12] or "not recorded"
        values = "" if digest.same else f"{printable(was, limit=200)}, {digest.now[:12]}"
        table.add_row(digest.what, "", "yes" if digest.same else "no", "", escape(values))
    for row in comparison.rows:
        table.add_row(escape(printable(row.metric, limit=200)), *cells(row))
    console.print()
    console.print(table)
    console.print()
    colour = COLOURS[comparison.verdict]
    console.print(f"[bold {colour}]{comparison.verdict}[/]: {sentence(comparison)}", soft_wrap=True)
    if comparison.first:
        console.print(f"First difference: {escape(comparison.first)}", soft_wrap=True)
    if expected and comparison.verdict != IDENTICAL:
        console.print("[bold]Bit-equality was expected here: this is worth a look.[/]")
    console.print("[dim]Throughput, latency, times and peak memory are of the moment and are not compared.[/]")


def cells(row: Row) -> tuple[str, str, str, str]:
    if row.first is None:
        return str(row.num_steps), str(row.num_equal), "", ""
    step, was, now = row.first
    apart = "not comparable" if math.isinf(row.largest) else f"{row.largest:.1e}"
    return str(row.num_steps), str(row.num_equal), apart, f"{step}: {spelled(was)}, {spelled(now)}"


def sentence(comparison: Reproduction) -> str:
    values = sum(row.num_steps for row in comparison.rows)
    all_of_them = f"all {values} values of {len(comparison.rows)} metrics"
    start, order, final = comparison.digests
    if comparison.verdict == IDENTICAL:
        return f"the final weights and {all_of_them} are equal to the last bit."
    if comparison.verdict == CLOSE:
        weights = f"are {'' if final.same else 'not '}equal to the bit" if final.was else "were not recorded"
        differs = any(row.first is not None for row in comparison.rows)
        near = f"within a relative difference of {comparison.tolerance:g}" if differs else "equal"
        return f"{all_of_them} are {near}; the final weights {weights}."
    other = [one.what for one in (start, order) if one.was and not one.same]
    if other:
        return f"the {' and the '.join(other)} are others: this was another experiment."
    beyond = sum(row.largest > comparison.tolerance for row in comparison.rows)
    return f"{beyond} of {len(comparison.rows)} metrics differ by more than a relative {comparison.tolerance:g}."


def show_place(folder: Path, mirror: Mirror, console: Console, *, complete: bool) -> None:
    console.print(f"Folder    {folder}", soft_wrap=True)
    if not complete:
        console.print(mirror.what_is_missing(), markup=False)
    if (found := mirror.locate(folder)) is not None:
        base = ui_base(mirror.store)
        url = run_link(base, experiment_id=found.experiment_id, run_id=found.run_id)
        console.print(f"MLflow    {url}", soft_wrap=True)

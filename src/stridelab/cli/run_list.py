"""`stridelab runs list|best`: the runs of a store as a table."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from stridelab import names
from stridelab.config import Config, load
from stridelab.probes.catalog import metric_of
from stridelab.tables import as_text, fitted
from stridelab.text import printable
from stridelab.tracking.listed import Listed, kept, require_known

from .arguments import split

if TYPE_CHECKING:
    from stridelab.tracking.mlflow_reader import RunRecord

SHOWN = ("test/acc", "test/error_px", "test/miou", "final/val_acc", "cost/macs", "throughput/train_images_per_s")
"""Metrics that a list has a column for, where a run has them; `columns=` chooses others."""
FORMATS = ("table", "json", "markdown", "csv")


def records_of(config: Config, sweep: str) -> list[RunRecord]:
    """Of one sweep, in its order; of all, the newest first. ValueError where there is none."""
    from stridelab.tracking.find import find_sweep
    from stridelab.tracking.mlflow_reader import Reader

    store = config.store
    if sweep:
        return list(find_sweep(store, sweep, results=config.results).runs)
    found = Reader(store).having({names.ROLE: "run"})
    if not found:
        raise ValueError(f"there is no run yet in {store.uri}, experiment {store.experiment}.")
    return found


def list_runs(arguments: Sequence[str], *, sorted_by: str = "sort") -> None:
    own = {"sweep": "", "where": "", "sort": "", "columns": "", "limit": "", "format": "table"}
    given, overrides = split(arguments, own)
    if given["format"] not in FORMATS:
        raise ValueError(f"format={given['format']} is not one of its choices; choose one of {', '.join(FORMATS)}.")
    rows = [Listed(run) for run in records_of(load(overrides), given["sweep"])]
    known = dict.fromkeys(key for row in rows for key in row.values)
    rows = list(kept(rows, given["where"], known))
    if not rows:
        raise ValueError(f"where={given['where']}: none of the runs is so; runs list without it shows all.")
    rows = ordered(rows, given["sort"], known, of=sorted_by)
    shown = rows[: limit_of(given["limit"])] if given["limit"] else rows
    columns = columns_of(shown, given["columns"], known)
    write(columns, shown, form=given["format"])
    if given["format"] == "table" and len(shown) < len(rows):
        print(f"{len(rows) - len(shown)} more; limit= shows them.")


def best_runs(arguments: Sequence[str]) -> None:
    """The first of a list sorted by a metric, the better ones first."""
    given, overrides = split(arguments, {"metric": "test/acc", "limit": "5", "where": ""})
    metric = given["metric"]
    where = f"{given['where']}, status=finished".removeprefix(", ")
    known = metric_of(metric)
    falling = known is None or known.sign > 0
    list_runs(
        [*overrides, f"sort={'-' if falling else ''}{metric}", f"where={where}", f"limit={given['limit']}"],
        sorted_by="metric",
    )


def limit_of(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise ValueError(f"limit={word} must be a whole number of at least 1.")
    return int(word)


def ordered(rows: list[Listed], sort: str, known: Iterable[str], *, of: str) -> list[Listed]:
    """By a column; `-column`: the largest first. Rows without it come last. `of`: the key that it was given by."""
    key = sort.removeprefix("-")
    if not key:
        return rows
    require_known(key, known, of=of)
    having = [row for row in rows if row.values.get(key) is not None]

    def rank(row: Listed) -> tuple[bool, Any]:
        value = row.values[key]
        return (isinstance(value, str), value)

    found = sorted(having, key=rank, reverse=sort.startswith("-"))
    return found + [row for row in rows if row.values.get(key) is None]


def columns_of(rows: Sequence[Listed], asked: str, known: Iterable[str]) -> list[str]:
    """Those asked for; else the id, what differs between the runs, and the main metrics."""
    if asked:
        columns = [word.strip() for word in asked.split(",")]
        for column in columns:
            require_known(column, known, of="columns")
        return ["id", *(column for column in columns if column != "id")]
    params = dict.fromkeys(key for row in rows for key in row.record.params)
    differing = [
        key
        for key in params
        if not names.LAYER_PARAM.fullmatch(key) and len({row.record.params.get(key) for row in rows}) > 1
    ]
    metrics = [key for key in SHOWN if any(key in row.record.metrics for row in rows)]
    facts = [key for key in ("status", "reason") if len({row.values[key] for row in rows}) > 1]
    return ["id", "name", *facts, *metrics, *(key for key in differing if key != "seed"), "sweep", "started"]


def write(columns: Sequence[str], rows: Sequence[Listed], *, form: str) -> None:
    if form == "json":
        print(json.dumps([{key: row.values.get(key) for key in columns} for row in rows], indent=1))
    elif form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows([printable(row.values.get(key, "")) for key in columns] for row in rows)
    elif form == "markdown":
        table: list[Sequence[str]] = [[heading(key) for key in columns], ["---"] * len(columns)]
        table += [[shown(row, key) for key in columns] for row in rows]
        for cells in table:
            print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    else:
        lines = [[shown(row, key) for key in columns] for row in rows]
        words = {key for key in columns if any(isinstance(row.values.get(key), str) for row in rows)}
        print_table([heading(key) for key in columns], lines, words={heading(key) for key in words})


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, words: set[str]) -> None:
    """As wide as the terminal; columns that do not fit are named. Piped, all of them."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    found, dropped = fitted(headings, rows, words=words, width=width)
    print(as_text(found, width=width))
    if dropped:
        print(f"Not shown, for the width: {', '.join(dropped)}. format=csv has all.")


def heading(key: str) -> str:
    metric = metric_of(key)
    unit = metric.shown_unit if metric else ""
    return f"{key} {unit}" if unit and not key.endswith(unit) and unit != "images/s" else key


def shown(row: Listed, key: str) -> str:
    value, metric = row.values.get(key), metric_of(key)
    if value is None:
        return ""
    if key == "id":
        return str(value)[:8]
    if metric and metric.is_share:
        return f"{100 * value:.2f}"
    return (
        f"{value:,.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else printable(f"{value:,.0f}" if isinstance(value, float) else value, limit=60)
    )

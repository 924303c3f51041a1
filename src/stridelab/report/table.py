"""The tidy run table: one row a run, and its summary: one row a variant."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from stridelab import names, text
from stridelab.geometry import LayerGeometry, parse_layers
from stridelab.geometry.totals import map_sizes
from stridelab.metrics import Metric, derived
from stridelab.probes.catalog import all_metrics, metric_of
from stridelab.report import statistics

if TYPE_CHECKING:
    from stridelab.tracking.find import SweepRecord
    from stridelab.tracking.mlflow_reader import RunRecord

IDENTITY = {
    "run_id": "the run's id in the store",
    "run_name": "variant and seed",
    "variant": "what is varied, the same text for every seed",
    "seed": "seed of initial weights and batch order; runs with the same seed are paired across variants",
    "status": "finished, running, failed, refused, diverged, out of memory, timed out or killed; only finished runs "
    "enter means",
    "reason": "why a run did not finish",
    "maps": "side of the image and of each map that windows make, in pixels (height x width if not square); of a deep "
    "network only the changes",
}
"""The first columns of the run table. After them come the swept parameters, which keep their own names (`stride_1`,
`padding`, ...), then METRICS, then what else was logged. In the variant table a metric X becomes X_mean, X_sd (over
seeds, sample sd), X_low and X_high (95 % t-interval of the mean, cut at the values that can be); one that is the same
for every seed keeps its name."""

ROWS = 40
"""Most variants or runs that a table or the page's chart shows; the CSV files have all."""

_REFUSED = "ValueError: refused: "


def run_table(sweep: SweepRecord) -> pd.DataFrame:
    """One row a run, failed and refused ones included, in the sweep's order; columns: see COLUMNS."""
    rows = [_row(run) for run in sweep.runs]
    table = pd.DataFrame(rows, columns=_column_order(rows, {key for run in sweep.runs for key in run.params}))
    table["seed"] = table["seed"].astype("Int64")
    maps = {name: text.maps(map_sizes(layers[0].input_size, layers)) for name, layers in geometries(sweep).items()}
    table["maps"] = table["variant"].map(maps).astype("object")
    return table


def _row(run: RunRecord) -> dict[str, Any]:
    params = {key: text.number_or_word(word) for key, word in run.params.items()}
    status, reason = _ending(run)
    return {
        **params,
        **derived(run.metrics),
        "run_id": run.run_id,
        "run_name": run.name,
        "variant": run.variant,
        "seed": _seed(run),
        "status": status,
        "reason": reason,
    }


def _ending(run: RunRecord) -> tuple[str, str]:
    """Status and reason; the tag knows more words than MLflow, but may be of an earlier attempt."""
    status = run.status.lower()
    if status in ("finished", "running", "scheduled"):
        return status, ""
    return run.tags.get(names.STATUS, status), run.reason.removeprefix(_REFUSED)


def _column_order(rows: Sequence[Mapping[str, Any]], params: Collection[str]) -> list[str]:
    """Identity, what varies, then metrics: the documented ones in their order, the others by name."""
    found = dict.fromkeys(key for row in rows for key in row)
    varied = [key for key in found if key in params]
    return list(dict.fromkeys([*IDENTITY, *varied, *(name for name in all_metrics() if name in found), *sorted(found)]))


def _seed(run: RunRecord) -> int | None:
    word = str(run.tags.get(names.SEED, run.params.get("seed", "")))
    return int(word) if word.removeprefix("-").isdecimal() else None


def geometries(sweep: SweepRecord) -> dict[str, list[LayerGeometry]]:
    """The layers of each variant, in sweep order, from the first of its runs that logged its geometry."""
    found: dict[str, list[LayerGeometry]] = {}
    for run in sweep.runs:
        if run.variant in found:
            continue
        try:
            layers = json.loads(run.artifact(names.GEOMETRY_FILE).read_text(encoding="utf-8"))
            found[run.variant] = list(parse_layers(layers))
        except (OSError, ValueError, TypeError, AttributeError):  # failed early, torn, or of another version
            continue
    return found


def measure_of(name: str) -> Metric:
    """What is known of a metric; of a user's own, nothing."""
    return metric_of(name) or Metric("", "")


def per_draw(runs: pd.DataFrame) -> pd.DataFrame:
    """The finished runs, numbers only, indexed by (variant, draw): a draw is a seed, or a run that has none.

    Runs of one variant and seed are one draw and are averaged: counted twice they would narrow the interval.
    """
    done = runs[runs["status"] == "finished"]
    draw = done["seed"].astype("string").fillna(done["run_id"].astype("string")).rename("draw")
    numbers = done.select_dtypes("number").drop(columns="seed")
    return numbers.groupby([done["variant"], draw], sort=False).mean()


def variant_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a variant in sweep order: n, runs that did not finish, maps, costs, and mean, sd, interval of the rest.

    Each metric's interval stands on the seeds that have that metric.
    """
    order = pd.Index(runs["variant"].unique(), name="variant")
    draws = per_draw(runs)
    groups = draws.groupby(level="variant", sort=False)
    table = pd.DataFrame(index=order)
    table["n"] = groups.size().reindex(order, fill_value=0)
    table["not_finished"] = (runs["status"] != "finished").groupby(runs["variant"]).sum().reindex(order)
    table["maps"] = runs.groupby("variant", sort=False)["maps"].first().reindex(order)
    mean, sd, count = groups.mean(), groups.std(ddof=1), groups.count()
    columns: dict[str, pd.Series] = {}
    for name in [name for name in draws.columns if "/" in name]:
        metric = metric_of(name)
        if metric is not None and metric.per_variant:  # known of a run that failed, too
            columns[name] = runs.groupby("variant", sort=False)[name].mean()
            continue
        bounds = (-np.inf, np.inf) if metric is None else metric.bounds
        half = statistics.half_width(sd[name], n=count[name])
        columns |= {
            f"{name}_mean": mean[name],
            f"{name}_sd": sd[name],
            f"{name}_low": (mean[name] - half).clip(lower=bounds[0]),
            f"{name}_high": (mean[name] + half).clip(upper=bounds[1]),
        }
    return table.join(pd.DataFrame(columns).reindex(order)).reset_index()


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, by column name."""
    return [dict(zip(map(str, table.columns), row, strict=True)) for row in table.itertuples(index=False, name=None)]


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    """UTF-8, one header line and one line a row; no control characters, and text that a spreadsheet would run as a
    formula gets a leading apostrophe."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([_inert(name) for name in table.columns])
        for row in table.itertuples(index=False, name=None):
            writer.writerow(["" if pd.isna(value) else _inert(value) for value in row])
    return path


def _inert(value: object) -> object:
    if not isinstance(value, str):
        return value
    line = text.printable(value)
    return f"'{line}" if line[:1] in tuple("=+-@") else line

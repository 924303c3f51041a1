"""The tidy run table: one row a run, and its summary: one row a variant."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from stridelab import names
from stridelab.report import statistics

if TYPE_CHECKING:
    from stridelab.tracking.find import SweepRecord
    from stridelab.tracking.mlflow_reader import RunRecord

_BENCHMARKED = {
    "forward_batch1": "one forward pass of one image",
    "forward_batch256": "one forward pass of 256 images",
    "training_batch1": "one training step with one image",
    "training_batch256": "one training step with 256 images",
}
BENCHMARK_COLUMNS = {
    "benchmark/num_rounds": "rounds of the measurement phase (docs/measuring.md), in which all variants took turns",
    **{
        f"benchmark/{cell}_{name}": f"{what}, {meaning}"
        for cell, what in _BENCHMARKED.items()
        for name, meaning in {
            "ms": "in ms, median of the rounds, measured apart from training",
            "iqr_ms": "inter-quartile range of the rounds, in ms",
            "p99_ms": "in ms, 99th percentile of all passes, where there were 100",
            **(
                {
                    "images_per_s": "images a second, median of the rounds, measured apart from training",
                    "iqr_images_per_s": "inter-quartile range of the rounds, in images a second",
                }
                if cell.endswith("256")
                else {}
            ),
        }.items()
    },
}

COLUMNS = {
    "run_id": "the run's id in the store",
    "run_name": "what varies, as text",
    "variant": "the stride and padding setting, the same text for every seed",
    "seed": "seed of initial weights and batch order; runs with the same seed are paired across variants",
    "status": "finished, running, failed, refused, diverged, out of memory, timed out or killed; only finished runs "
    "enter means",
    "reason": "why a run did not finish",
    "maps": "side of each convolution's or pooling's output map, in pixels, first layer first (HxW if not square)",
    "test/acc": "share of test images classified correctly, 0 to 1, measured once, at the end",
    "test/loss": "mean cross-entropy on the test images, in nats",
    "final/val_acc": "share of validation images classified correctly after the last epoch",
    "final/val_loss": "mean cross-entropy on the validation images after the last epoch, in nats",
    "final/train_acc": "share of training images classified correctly in the last epoch, while the weights moved",
    "final/train_loss": "mean cross-entropy on the training images in the last epoch, while the weights moved, in nats",
    "best/val_acc": "highest validation accuracy of any epoch",
    "train/acc": "as final/train_acc; by epoch in the store",
    "train/loss": "as final/train_loss; by epoch in the store",
    "val/acc": "as final/val_acc; by epoch in the store",
    "val/loss": "as final/val_loss; by epoch in the store",
    "throughput/train_images_per_s": "training images a second; warm-up, validation, snapshots and tracking left out; "
    "runs that trained at the same time shared the machine",
    "throughput/train_timed_images": "training images that this speed stands on",
    "throughput/train_timed_s": "seconds that this speed stands on",
    "throughput/eval_images_per_s": "images a second in evaluation",
    "latency/batch1_ms": "time of one forward pass of one image, in ms, median, at the end of the run",
    "memory/peak_rss_mib": "highest resident memory above the level before the run, in MiB (of the whole process where "
    "the system cannot reset its peak)",
    "memory/peak_device_mib": "highest memory allocated on the accelerator, in MiB",
    "memory/saved_activations_mib": "bytes kept for the backward pass of one training batch, in MiB",
    "memory/params_mib": "the parameters, in MiB",
    "cost/macs": "multiply-accumulates of one forward pass of one image (convolutions and linear layers, bias "
    "excluded, padding taps included)",
    "cost/params": "number of parameters",
    "cost/effective_stride": "product of all strides: input pixels between neighbouring units of the last map",
    "cost/receptive_field_px": "side of the input square that one unit of the last map can see, in pixels",
    **BENCHMARK_COLUMNS,
    "time/fit_s": "wall time of training, validation included, in s",
    "time/total_s": "wall time of the whole run, in s",
}
"""Every column of the run table but the swept parameters, which keep their own names (`stride_1`, `padding`, ...),
and further metrics, which keep their names in the store. In the variant table a measured metric X becomes X_mean,
X_sd (over seeds, sample sd), X_low and X_high (95 % t-interval of the mean); a cost or benchmark keeps its name."""

FIXED = ("cost/", "memory/saved_activations_mib", "memory/params_mib", "benchmark/")
"""Metrics that are the same for every seed of a variant: one value a variant, no spread over seeds."""
_REFUSED = "ValueError: refused: "
_MAPS = ("conv", "max_pool", "avg_pool")
_LISTED_LAYERS = 5


def run_table(sweep: SweepRecord) -> pd.DataFrame:
    """One row a run, failed and refused ones included, in the sweep's order; columns: see COLUMNS."""
    table = pd.DataFrame([_row(run) for run in sweep.runs], columns=_column_order(sweep.runs))
    table["seed"] = table["seed"].astype("Int64")
    maps = {name: map_sizes(layers) for name, layers in geometries(sweep).items()}
    table["maps"] = table["variant"].map(maps).astype("object")
    return table


def _row(run: RunRecord) -> dict[str, Any]:
    params = {key: _number(value) for key, value in run.params.items()}
    status, reason = _ending(run)
    return {
        **params,
        **run.metrics,
        "run_id": run.run_id,
        "run_name": run.name,
        "variant": variant_of(run),
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


def _column_order(runs: Iterable[RunRecord]) -> list[str]:
    """Identity, what varies, then metrics: the documented ones in their order, the others by name."""
    identity = [name for name in COLUMNS if "/" not in name]
    params = {key: None for run in runs for key in run.params}
    metrics = {key for run in runs for key in run.metrics}
    known = [name for name in COLUMNS if name in metrics]
    columns = [*identity, *params, *known, *sorted(metrics.difference(known))]
    return list(dict.fromkeys(columns))


def variant_of(run: RunRecord) -> str:
    return run.tags.get(names.VARIANT) or run.name


def _seed(run: RunRecord) -> int | None:
    text = str(run.tags.get(names.SEED, run.params.get("seed", "")))
    return int(text) if text.removeprefix("-").isdecimal() else None


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def geometries(sweep: SweepRecord) -> dict[str, list[dict[str, Any]]]:
    """The layers of each variant, in sweep order, from the first of its runs that logged `geometry.json`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in sweep.runs:
        variant = variant_of(run)
        if variant in found:
            continue
        try:
            found[variant] = json.loads(run.artifact(names.GEOMETRY_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # a run that failed early has none; a torn file says nothing
            continue
    return found


def drawn_layers(layers: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The layers that make maps: convolutions and poolings (norms and activations keep the grid)."""
    return [layer for layer in layers if layer["kind"] in _MAPS]


def map_sizes(layers: Iterable[Mapping[str, Any]]) -> str:
    """`28-14-7`; of a deep network only the changes are listed."""
    sizes = [side_text(layer["output_size"]) for layer in drawn_layers(layers)]
    if len(sizes) > _LISTED_LAYERS:
        sizes = [size for i, size in enumerate(sizes) if i == 0 or size != sizes[i - 1]]
    return "-".join(sizes)


def side_text(size: Iterable[int]) -> str:
    height, width = size
    return str(height) if height == width else f"{height}x{width}"


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
        if name.startswith(FIXED):  # known of a run that failed, too
            columns[name] = runs.groupby("variant", sort=False)[name].mean()
            continue
        half = statistics.half_width(sd[name], n=count[name])
        columns |= {
            f"{name}_mean": mean[name],
            f"{name}_sd": sd[name],
            f"{name}_low": mean[name] - half,
            f"{name}_high": mean[name] + half,
        }
    return table.join(pd.DataFrame(columns).reindex(order)).reset_index()


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows, by column name."""
    return [dict(zip(map(str, table.columns), row, strict=True)) for row in table.itertuples(index=False, name=None)]


def write_csv(table: pd.DataFrame, path: Path) -> Path:
    """UTF-8, one header line; text that a spreadsheet would run as a formula gets a leading apostrophe."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([_inert(name) for name in table.columns])
        for row in table.itertuples(index=False, name=None):
            writer.writerow(["" if pd.isna(value) else _inert(value) for value in row])
    return path


def _inert(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r\n") else value

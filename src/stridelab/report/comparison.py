"""A sweep read once: its tables, its differences to a baseline, and what the figures draw."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stridelab import names
from stridelab.geometry import LayerGeometry
from stridelab.metrics import METRICS, Metric
from stridelab.report import statistics
from stridelab.report.artifacts import read_arrays, read_json
from stridelab.report.controls import Controls, check_controls
from stridelab.report.differences import against_baseline
from stridelab.report.mistakes import Mistakes, mistakes
from stridelab.report.selection import find_selection, named
from stridelab.report.table import geometries, measure_of, per_draw, records, run_table, variant_table
from stridelab.text import plural, short_variant, with_unit
from stridelab.training.tasks import primary_metrics

if TYPE_CHECKING:
    from stridelab.tracking.find import SweepRecord
    from stridelab.tracking.mlflow_reader import RunRecord


@dataclass(frozen=True)
class Comparison:
    """The variants of one sweep against one of them."""

    sweep: SweepRecord
    runs: pd.DataFrame
    """One row a run: `table.COLUMNS`."""
    variants: pd.DataFrame
    """One row a variant: `table.variant_table`, `pareto`, and the paired difference to the baseline."""
    metric: str
    """What is compared: see metrics.METRICS."""
    baseline: str
    """The variant that the others are compared with."""
    controls: Controls
    margin: float = 0.0
    """Differences up to it do not matter, in the metric's shown unit: `sweep.margin`; 0: not set for its unit."""
    earlier: tuple[int, ...] = ()
    """Seeds a variant of each earlier report that could have ended the search for a difference."""
    budget: Mapping[str, float] | None = None
    """Most that a variant may cost, by key of answer.BUDGETS: the report marks what fits."""
    asked: Mapping[str, str | None] = field(default_factory=dict)
    """The `baseline` and the `metric` that were asked for, None where none was."""
    missing: tuple[str, ...] = ()
    """The variant of each run of the sweep that could not be read."""
    warnings: tuple[str, ...] = ()
    """What is not as the sweep was asked for: runs that are missing, another baseline than its first variant."""

    @property
    def names(self) -> list[str]:
        """The variants in sweep order."""
        return list(self.variants["variant"])

    @cached_property
    def by_variant(self) -> dict[str, dict[str, Any]]:
        """The rows of `variants`, by name."""
        return {row["variant"]: row for row in records(self.variants)}

    @property
    def measure(self) -> Metric:
        return measure_of(self.metric)

    @property
    def metric_text(self) -> str:
        return self.measure.label or self.metric

    @property
    def metric_heading(self) -> str:
        """`test accuracy, %`."""
        return with_unit(self.metric_text, self.measure.shown_unit)

    @cached_property
    def seeds_trained(self) -> pd.Series:
        """Seeds with a finished run, by variant; `n` of `variants` are those that measured what is compared."""
        return per_draw(self.runs).groupby(level="variant").size().reindex(self.names, fill_value=0)

    def short(self, variant: str) -> str:
        """`2-2-1 valid` for `strides=2-2-1 padding=valid`, where no two variants would be called the same."""
        return self._short_names[variant]

    @cached_property
    def _short_names(self) -> dict[str, str]:
        found = {name: short_variant(name) for name in self.names}
        return found if len(set(found.values())) == len(found) else {name: name for name in found}

    def shown(self, limit: int) -> list[str]:
        """At most `limit` variants, in sweep order: the baseline, the Pareto front, then the best."""
        table = self.variants
        rank = np.where(table["variant"] == self.baseline, 0, np.where(table["pareto"] == "front", 1, 2))
        order = np.lexsort((-self.measure.sign * table[f"{self.metric}_mean"].to_numpy(), rank))  # NaN last in its rank
        return [self.names[i] for i in sorted(order[:limit])]

    def scores(self, metric: str) -> pd.DataFrame:
        """A metric of every draw (seed): columns variant, draw, value; without missing ones."""
        draws = per_draw(self.runs)
        if metric not in draws:
            return pd.DataFrame({"variant": [], "draw": [], "value": []})
        return draws[metric].dropna().rename("value").reset_index()

    def curves(self, metric: str) -> pd.DataFrame:
        """The history of a metric in every finished run: columns variant, run_id, step, value."""
        rows = [
            (run.variant, run.run_id, step, value)
            for run in self.sweep.runs
            if run.is_finished
            for step, value in run.history(metric)
        ]
        return pd.DataFrame(rows, columns=["variant", "run_id", "step", "value"])

    @cached_property
    def num_test_images(self) -> int:
        """0 where no run wrote it down."""
        files = (read_json(run, names.DATA_FILE) for run in self.sweep.runs)
        return next((count for file in files if isinstance(count := file.get("num_test"), int)), 0)

    @cached_property
    def mistakes(self) -> Mistakes | None:
        """Predictions of the test images, of all finished runs that kept them."""
        return mistakes(self.sweep)

    @cached_property
    def geometries(self) -> dict[str, list[LayerGeometry]]:
        return geometries(self.sweep)

    @cached_property
    def feature_map_runs(self) -> dict[str, RunRecord]:
        """One finished run a variant, all of the same seed where there is such a seed."""
        done = [run for run in self.sweep.runs if run.is_finished]
        variants = {run.variant for run in done}
        by_seed: dict[str, dict[str, RunRecord]] = {}
        for run in done:
            by_seed.setdefault(run.tags.get(names.SEED, ""), {}).setdefault(run.variant, run)
        return max(by_seed.values(), key=lambda runs: len(variants & runs.keys()), default={})


def feature_maps(run: RunRecord) -> Mapping[str, NDArray[Any]]:
    """`<step>/<layer>` -> float16 [images, channels, height, width], and `images` -> uint8; {} when not kept."""
    return read_arrays(run, names.FEATURE_MAPS)


def compare(
    sweep: SweepRecord,
    *,
    baseline: str | None = None,
    metric: str | None = None,
    earlier: Sequence[int] = (),
    budget: Mapping[str, float] | None = None,
) -> Comparison:
    """Read a sweep's runs; the baseline is its first variant that has a result, the metric test accuracy. `earlier`:
    seeds a variant that earlier reports were written with.

    Raises ValueError when the sweep has no runs, `baseline` is not a variant, or no finished run has `metric`.
    """
    asked_for = {"baseline": baseline, "metric": metric}
    sweep, planned = named(sweep)
    if not sweep.runs:
        raise ValueError(f"sweep {sweep.name} has no runs in the store, so there is nothing to compare.")
    found = {run.tags.get(names.SIGNATURE) for run in sweep.runs}
    lost = [*(key for key in planned if key not in found), *(key for key in sweep.missing if key not in planned)]
    missing = tuple(planned.get(signature, signature) for signature in lost)
    runs = run_table(sweep)
    judged, metric = _metric(runs, None), _metric(runs, metric)
    if metric not in runs:
        runs[metric] = np.nan
    with_result = runs.loc[(runs["status"] == "finished") & runs[metric].notna(), "variant"]
    asked = next(iter([*planned.values(), *runs["variant"]]))
    baseline = _full(baseline, runs["variant"])
    chosen = baseline or next(iter([*with_result, asked]))
    of_its_unit = measure_of(metric).shown_unit == measure_of(judged).shown_unit
    margin = margin_of(sweep) if of_its_unit else 0.0
    looks = _decisive(runs, earlier)
    variants = _variants(runs, metric=metric, baseline=chosen, margin=margin, looks=1 + len(looks))
    return Comparison(
        sweep=sweep,
        runs=runs,
        variants=variants,
        metric=metric,
        baseline=chosen,
        controls=check_controls(sweep, runs),
        margin=margin,
        earlier=looks,
        budget=budget,
        asked=asked_for,
        missing=missing,
        warnings=(
            *_warnings(missing, sweep, baseline=chosen, asked=baseline or asked, metric=metric),
            *_unread_margin(sweep, metric, judged=judged, is_read=of_its_unit),
        ),
    )


def _full(name: str | None, variants: Iterable[str]) -> str | None:
    """The variant of that name, which may be short: `2-2-1 valid`."""
    return next((variant for variant in variants if short_variant(variant) == name), name)


def margin_of(sweep: SweepRecord) -> float:
    """`sweep.margin`, as the sweep's own run has it; 0 where it was not set."""
    config = read_json(sweep.run, names.CONFIG_FILE) or next((read_json(r, names.CONFIG_FILE) for r in sweep.runs), {})
    found = config.get("sweep", {}).get("margin")
    return float(found) if isinstance(found, int | float) and found > 0 else 0.0


def _decisive(runs: pd.DataFrame, earlier: Sequence[int]) -> tuple[int, ...]:
    """Of the earlier reports' seeds, those with which a test could reach 0.05 and to which seeds were added since."""
    counts = per_draw(runs).groupby(level="variant").size()
    needed = statistics.seeds_needed(len(counts) - 1)
    return tuple(sorted({n for n in earlier if needed <= n < counts.max()})) if len(counts) else ()


def _warnings(missing: Sequence[str], sweep: SweepRecord, *, baseline: str, asked: str, metric: str) -> Iterator[str]:
    if missing:
        listed = ", ".join(f"{count} of {variant}" for variant, count in Counter(missing).items())
        way = "to import it again brings" if sweep.is_imported else "the sweep's own command trains"
        yield (
            f"{plural(len(missing), 'run')} of this sweep {'is' if len(missing) == 1 else 'are'} missing from the "
            f"run folders and the store ({listed}): {way} what is missing."
        )
    if baseline != asked:
        yield f"{asked}, the first variant, has no finished run with {metric}; {baseline} is the baseline in its place."


def _unread_margin(sweep: SweepRecord, metric: str, *, judged: str, is_read: bool) -> Iterator[str]:
    if not is_read and (margin := margin_of(sweep)):
        of = f"{margin:g} {measure_of(judged).difference_unit(margin)}".rstrip()
        yield f"sweep.margin, {of}, is of {judged}: what does not matter in {metric} was not said."


def _metric(runs: pd.DataFrame, wanted: str | None) -> str:
    done = runs[runs["status"] == "finished"]
    known = [str(name) for name in done.select_dtypes("number") if "/" in str(name) and done[name].notna().any()]
    if wanted is None:
        return next((name for name in primary_metrics() if name in known), primary_metrics()[0])
    choices = [name for name in known if not (name in METRICS and METRICS[name].per_variant)]
    if wanted not in choices:
        raise ValueError(
            f"metric={wanted!r} is not measured in any finished run of this sweep; choose one of {', '.join(choices)}."
        )
    return wanted


def load(
    *,
    store: str,
    experiment: str,
    sweep: str = "latest",
    baseline: str | None = None,
    metric: str | None = None,
    results: str = "",
    where: str = "",
    earlier: Sequence[int] = (),
    budget: Mapping[str, float] | None = None,
) -> Comparison:
    """A sweep, by name or id, or several with commas between (`where`: some of their runs), from the run folders in
    `results` and from the store at an address (relative paths count from this folder)."""
    from stridelab.tracking.settings import TrackingConfig
    from stridelab.tracking.store import resolve_store

    place = resolve_store(TrackingConfig(uri=store, experiment=experiment), results_dir=Path())
    warnings.filterwarnings("ignore", message="IProgress not found")  # of tqdm in MLflow, when a notebook imports it
    found = find_selection(place, sweep, where=where, results=Path(results) if results else None)
    return compare(found, baseline=baseline, metric=metric, earlier=earlier, budget=budget)


def _variants(runs: pd.DataFrame, *, metric: str, baseline: str, margin: float, looks: int) -> pd.DataFrame:
    table = variant_table(runs)
    measured = per_draw(runs)[metric].groupby(level="variant").count()
    table["n"] = table["variant"].map(measured).fillna(0).astype(int)  # what is compared may be of fewer seeds
    against = against_baseline(runs, metric=metric, baseline=baseline, margin=margin, looks=looks)
    macs = table["cost/macs"] if "cost/macs" in table else np.full(len(table), np.nan)
    mean, low, high = (table[f"{metric}_{name}"] for name in ("mean", "low", "high"))
    if measure_of(metric).sign < 0:
        mean, low, high = -mean, -high, -low
    table["pareto"] = statistics.pareto(mean, cost=macs, low=low, high=high)
    table = table.merge(against, on="variant", validate="one_to_one")
    columns = [str(name) for name in table.columns]
    first = [name for name in columns if name.startswith((metric, "difference_", "pareto")) or "/" not in name]
    return table[[*first, *table.columns.difference(first, sort=False)]]

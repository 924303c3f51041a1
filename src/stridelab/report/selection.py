"""Runs of several sweeps, or some of a sweep's, as one comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stridelab import names
from stridelab.report.artifacts import read_json
from stridelab.tracking.find import SweepRecord, find_sweep
from stridelab.tracking.listed import Listed, kept
from stridelab.tracking.mlflow_reader import Points, RunRecord
from stridelab.tracking.store import Store


class NoFiles:
    """Of the run of a comparison that no command made: it has neither files nor histories."""

    def history(self, run_id: str, key: str) -> Points:
        return []

    def artifact(self, run: RunRecord, path: str, *, into: Path | None) -> Path:
        raise FileNotFoundError(path)

    def files(self, run_id: str) -> Iterator[str]:
        return iter(())


def find_selection(store: Store, wanted: str, *, where: str = "", results: Path | None = None) -> SweepRecord:
    """`wanted`: a sweep, or several with commas between; `where`: conditions on their runs. ValueError where nothing
    is left."""
    sweeps = [find_sweep(store, word.strip(), results=results) for word in wanted.split(",") if word.strip()]
    if not sweeps:
        raise ValueError("sweep= must name a sweep, or several with commas between.")
    return sweeps[0] if len(sweeps) == 1 and not where else select(sweeps, where)


def select(sweeps: Sequence[SweepRecord], where: str = "") -> SweepRecord:
    """Under the names that each sweep gave its runs; a run of two sweeps counts once."""
    found = {run.run_id: run for sweep in sweeps for run in named(sweep)[0].runs}
    rows = [Listed(run) for run in found.values()]
    runs = [row.record for row in kept(rows, where, dict.fromkeys(key for row in rows for key in row.values))]
    if not runs:
        raise ValueError(f"where={where}: none of the runs is so.")
    mark = f"-{hashlib.sha256(where.encode()).hexdigest()[:6]}" if where else ""
    return replace(
        sweeps[0],
        run_id=",".join(sweep.run_id for sweep in sweeps),
        name=f"{'-and-'.join(dict.fromkeys(sweep.folder_name for sweep in sweeps))[:90]}{mark}",
        note="",
        tags={},
        runs=tuple(runs),
        run=replace(sweeps[0].run, _reader=NoFiles()),
    )


def named(sweep: SweepRecord) -> tuple[SweepRecord, dict[str, str]]:
    """The sweep with its runs under the names and parameters that it gave them itself, and all variants that it was
    asked for, by signature: a run that another sweep trained is called there after what varied there."""
    planned = read_json(sweep.run, names.VARIANTS_FILE)
    try:
        runs = [_renamed(run, planned.get(run.tags.get(names.SIGNATURE, ""))) for run in sweep.runs]
        return replace(sweep, runs=tuple(runs)), {key: str(own["variant"]) for key, own in planned.items()}
    except (TypeError, KeyError, AttributeError):  # from elsewhere, and not as a sweep writes it
        return sweep, {}


def _renamed(run: RunRecord, own: Mapping[str, Any] | None) -> RunRecord:
    if own is None:
        return run
    params = {str(key): str(value) for key, value in own["params"].items()}
    return replace(run, name=str(own["name"]), tags={**run.tags, names.VARIANT: str(own["variant"])}, params=params)

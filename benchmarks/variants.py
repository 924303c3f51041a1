"""A finished sweep's variants, measured in turns; at full size, the figures also go into their runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from stridelab import names
from stridelab.benchmark.session import Finished, measure_runs
from stridelab.benchmark.timing import Measured, Session, Timing
from stridelab.benchmark.workloads import TINY, Effort
from stridelab.config import Config, load
from stridelab.models.settings import spell
from stridelab.reproduce.rebuild import rebuild
from stridelab.tracking.files import read_json
from stridelab.tracking.find import find_sweep
from stridelab.tracking.mlflow_reader import RunRecord
from stridelab.tracking.run import IDENTITY
from stridelab.tracking.store import Store, resolve_store
from stridelab.tracking.sync import Mirror

from .rows import Row, middle_of

FLUSH_S = 60.0


def rows(*, tiny: bool, sweep: str, **given: str) -> Iterator[Row]:
    """ValueError when there is no such sweep, or none of its runs has finished. Ratio: to the first variant."""
    config = load([f"{key}={value}" for key, value in given.items() if value])
    results = Path(config.paths.results_dir)
    store = resolve_store(config.tracking, results_dir=results)
    record = find_sweep(store, sweep)
    folders = folders_by_uid(results)
    runs = [finished(run, folders) for run in record.runs if run.status == "FINISHED"]
    if not runs:
        raise ValueError(
            f"sweep={sweep}: none of its {len(record.runs)} runs has finished, so there is no speed to tell."
        )
    console = Console(stderr=True, soft_wrap=True)
    session = measure_runs(runs, console, effort=TINY if tiny else Effort(), keep=not tiny)
    if not tiny:
        send(store, [run.folder for run in runs if run.folder], console)
    say(session, console)
    configs = {run.variant: run.config for run in reversed(runs)}
    for measured in session.variants.values():
        yield from rows_of(session, measured, configs[measured.name])


def folders_by_uid(results: Path) -> dict[str, Path]:
    """A run that was trained again has a folder beside its first, so the signature does not tell."""
    paths = sorted((results / "runs").glob(f"*/{IDENTITY}"))
    return {(read_json(path) or {}).get("uid", ""): path.parent for path in paths}


def finished(run: RunRecord, folders: Mapping[str, Path]) -> Finished:
    content = json.loads(run.artifact("config.json").read_text(encoding="utf-8"))
    variant = run.tags.get(names.VARIANT) or run.name
    return Finished(variant, rebuild(content).config, folders.get(run.tags.get(names.UID, "")))


def send(store: Store, folders: list[Path], console: Console) -> None:
    with Mirror(store) as mirror:
        for folder in folders:
            mirror.watch(folder)
        if not mirror.flush(FLUSH_S):
            console.print(
                "[yellow]The tracking store did not take everything[/]; python scripts/runs.py sync sends it."
            )


def say(session: Session, console: Console) -> None:
    for name, measured in session.variants.items():
        console.print(f"{escape(name)}: {escape(session.mark(name))}", highlight=False)
        for cell, reason in measured.refused.items():
            console.print(f"{escape(name)}: {cell.key} cannot be measured: {escape(reason)}", highlight=False)


def rows_of(session: Session, measured: Measured, config: Config) -> Iterator[Row]:
    first = next(iter(session.variants.values()))
    mark = " (untrusted)" if session.doubts(measured.name) else ""
    for cell, timing in measured.timings.items():
        found, reference = middle_of(values_of(timing)), first.timings.get(cell)
        yield Row(
            section="variants",
            name=f"{cell.kind}, {measured.name}{mark}; ratio to {first.name}",
            strides=spell(config.model.strides),
            batch=cell.batch,
            unit="images/s" if cell.batch > 1 else "ms",
            ratio=found.value / middle_of(values_of(reference)).value if reference else None,
            **found._asdict(),
        )


def values_of(timing: Timing) -> list[float]:
    """One image is asked for its latency, many for their throughput."""
    return timing.images_per_s if timing.batch > 1 else [1000 * second for second in timing.seconds]

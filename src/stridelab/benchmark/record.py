"""Figures of a session into the runs that they are of, which stay finished."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from stridelab import names
from stridelab.tracking.journal import JOURNAL, read
from stridelab.tracking.provenance import machine
from stridelab.tracking.run import amend
from stridelab.training import TrainerConfig

from .timing import PREFIX, Session, VariantTimings


def record(session: Session, folders: Mapping[str, Sequence[Path]], trainers: Mapping[str, TrainerConfig]) -> list[str]:
    """Into the runs in `folders`, by variant; what could not be recorded, in words. The figures of a session have one
    step in all runs: one more than any of them had before."""
    everywhere = [folder for some in folders.values() for folder in some]
    step = 1 + max((last_step(folder) for folder in everywhere), default=0)
    shared = {names.BENCHMARK_SESSION: f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {uuid4().hex[:8]}"}
    problems, cpu = [], str(machine()["cpu"])
    for name, some in folders.items():
        measured = session.variants[name]
        tags = shared | {
            names.BENCHMARK: session.mark(name),
            names.BENCHMARK_SETUP: setup(measured, trainers[name], cpu=cpu),
        }
        for folder in some:
            try:
                with amend(folder) as run:
                    run.metrics(with_gaps(measured.metrics(), folder), step=step)
                    run.tags(tags)
            except (OSError, ValueError) as error:
                problems.append(f"{folder.name}: {error}")
    return problems


def last_step(folder: Path) -> int:
    return max((step for step, _ in recorded(folder)), default=0)


def with_gaps(metrics: Mapping[str, float], folder: Path) -> dict[str, float]:
    """NaN for what an earlier session could measure and this one could not: the last step is what tables show."""
    return dict.fromkeys((name for _, known in recorded(folder) for name in known), math.nan) | dict(metrics)


def recorded(folder: Path) -> Iterator[tuple[int, list[str]]]:
    """(step, names) of the figures that earlier sessions left in a run's journal."""
    for one in read(folder / JOURNAL):
        if one.kind == "metrics" and (known := [name for name in one.data["values"] if name.startswith(PREFIX)]):
            yield one.data["step"], known


def setup(measured: VariantTimings, trainer: TrainerConfig, *, cpu: str) -> str:
    """What speed depends on beside the variant, in words."""
    threads = f"{measured.threads} thread{'' if measured.threads == 1 else 's'}"
    where = measured.device or f"{cpu}, {threads}"
    layout = "channels last" if trainer.channels_last else "channels first"
    rounded = trainer.tf32 and trainer.precision == "32-true" and measured.device not in ("", "mps")
    return f"{where}, {trainer.precision}{' with TF32' if rounded else ''}, {layout}"

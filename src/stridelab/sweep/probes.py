"""What `probes=` asks for, of every finished run, before the comparison is written."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from stridelab.probes.catalog import missing
from stridelab.run import RunSpec, probe
from stridelab.tracking.status import FINISHED, RESULT

from .gpu_jobs import shared_process
from .launcher import Launcher
from .task import Task


def probe_runs(specs: Sequence[RunSpec], launcher: Launcher, console: Console) -> None:
    """Of runs that have the values already, none again; what cannot be measured is said, and never fatal."""
    wanted = [
        spec
        for spec in specs
        if spec.config.probes and (spec.folder / RESULT).exists() and missing(spec.config.probes, spec.folder)
    ]
    if not wanted:
        return
    with console.status("probing the trained networks ..."):
        outcomes = launcher.run([task_of(spec) for spec in wanted])
    for spec, outcome in zip(wanted, outcomes, strict=True):
        if outcome.status != FINISHED:
            console.print(f"[yellow]not probed[/]  {spec.identity.name}: {escape(outcome.told)}")


def task_of(spec: RunSpec) -> Task:
    return Task(probe, (spec,), log=spec.folder / "probes.txt", shares=shared_process(spec.config))

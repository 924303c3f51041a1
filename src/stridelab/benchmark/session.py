"""The phase from end to end: finished runs in, figures recorded in them, seen on a bar while it takes its time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stridelab import names
from stridelab.config import Config
from stridelab.plan import layer_plan_of
from stridelab.tracking.status import read_tag

from .interleave import Told, take_turns
from .record import record
from .timing import Session
from .workloads import Effort, Subject


@dataclass(frozen=True)
class Finished:
    """A finished run, as far as the phase needs to know it."""

    variant: str
    config: Config
    folder: Path | None
    """None: its journal is not on this machine, so that nothing can be recorded in it."""


def is_measured(runs: Sequence[Finished]) -> bool:
    """Whether all of them have figures of one session."""
    sessions = {run.folder and read_tag(run.folder, names.BENCHMARK_SESSION) for run in runs}
    return len(sessions) == 1 and bool(sessions.pop())


def measure_runs(runs: Sequence[Finished], console: Console) -> Session:
    """Measure every variant of `runs` once, in the order in which they first come, and record it in all of them, for
    speed does not depend on the seed."""
    firsts: dict[str, Finished] = {}
    folders: dict[str, list[Path]] = {}
    for run in runs:
        firsts.setdefault(run.variant, run)
        folders.setdefault(run.variant, []).extend([run.folder] if run.folder else [])
    subjects = [
        Subject(name, layer_plan_of(run.config), run.config.trainer, run.config.seed, run.config.task)
        for name, run in firsts.items()
    ]
    with progress(console) as told:
        session = take_turns(subjects, Effort(), told=told)
    missing = sum(run.folder is None for run in runs)
    problems = [f"{missing} of {len(runs)} runs: no folder on this machine"] if missing else []
    problems += record(session, folders, {one.name: one.trainer for one in subjects})
    for problem in problems:
        console.print(f"[yellow]not recorded[/]  {escape(problem)}")
    return session


@contextmanager
def progress(console: Console) -> Iterator[Told]:
    """A bar on a terminal; elsewhere one line, as soon as it is known how long it will take."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[said]}"))
    bar = Progress(*columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal, transient=True)
    told_once = False

    def told(what: str, done_s: float, all_s: float) -> None:
        nonlocal told_once
        left = f", about {all_s - done_s:.0f} s left" if all_s else ""
        bar.update(task, completed=done_s, total=all_s or None, said=f"{what}{left}")
        if all_s and not told_once:
            told_once = True
            console.print(f"Measuring speed, one variant at a time, for about {all_s:.0f} s ...")

    with bar:
        task = bar.add_task("[bold]speed[/]", total=None, said="")
        yield told

"""What a launcher costs a run: tasks that do nothing, as many at a time as it takes, all launchers in turns."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from stridelab.config import load
from stridelab.sweep.launcher import Launcher
from stridelab.sweep.launchers import launcher_for
from stridelab.sweep.task import Task

from .rows import Row, middle_of

AT_ONCE = "sweep.jobs=2"


def rows(*, tiny: bool, runs: str, turns: str) -> Iterator[Row]:
    """Each launcher is warm: its processes have loaded what trains. Slurm's have not; every job loads it."""
    tasks, rounds = (2, 1) if tiny else (int(runs), int(turns))
    with TemporaryDirectory() as folder:
        launchers = {name: launcher_for(load([f"paths.results_dir={folder}", *keys]), num_runs=tasks)
                     for name, keys in there_are(tasks).items()}  # fmt: skip
        for launcher in launchers.values():
            launcher.warm_up()
            seconds(launcher, 2)
        measured: dict[str, list[float]] = {name: [] for name in launchers}
        for _ in range(rounds):
            for name, launcher in launchers.items():
                measured[name].append(seconds(launcher, tasks) / tasks * 1000)
    for name, values in measured.items():
        yield Row(section="launchers", name=name, unit="ms a run", **middle_of(values)._asdict())


def there_are(tasks: int) -> dict[str, list[str]]:
    found = {"local": ["launcher=local", AT_ONCE]}
    if find_spec("ray"):
        found["ray, on this machine"] = ["launcher=ray", AT_ONCE]
    if shutil.which("sinfo") and not subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
        found["slurm, a job a run"] = ["launcher=slurm", AT_ONCE]
        found[f"slurm, {tasks} runs a job"] = ["launcher=slurm", f"sweep.runs_per_job={tasks}"]
    left_out = {"ray", "slurm"} - {name.partition(",")[0] for name in found}
    if left_out:
        print(f"left out, not here: {', '.join(sorted(left_out))}", file=sys.stderr)
    return found


def seconds(launcher: Launcher, count: int) -> float:
    began = perf_counter()
    outcomes = launcher.run([Task(nothing, (Path.cwd(),))] * count)
    assert not [outcome for outcome in outcomes if outcome.reason], outcomes
    return perf_counter() - began


def nothing(folder: Path, *, progress: Any) -> None:
    """What a run is without its work."""

"""Where runs are executed. To add a launcher: one file here, and one line in `LAUNCHERS`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from stridelab.config import Config
from stridelab.plan import Variant

from ..task import SILENT, Listener, Outcome, Task
from .in_process import in_process
from .local import LocalLauncher, local
from .ray import on_ray
from .slurm import on_slurm


class Launcher(Protocol):
    """Runs tasks somewhere, and promises:

    isolation   what a task does to its process (a crash, a leak, changed settings) reaches no other task;
    output      all that it prints goes to `Task.log`;
    progress    what it passes to `progress=` reaches `Listener.event`, in order and before its end;
    time limit  after `Task.timeout_s` it is ended, and its outcome is `timed out`;
    a dead run  has an outcome that says how it died, with `died=True`; the other tasks go on;
    stop        once `Listener.stop` says so, what runs is ended and nothing more is started; and when an exception
                (Ctrl-C) passes through `run`, nothing is left running.

    A launcher that cannot keep one of these says so in its first line.
    """

    jobs: int
    """Tasks at a time, at most."""
    here: bool
    """Whether this machine must have what runs need: devices, a compiler, open files; else another one may."""

    def choose_jobs(self, variants: Sequence[Variant]) -> str:
        """Set `jobs` anew where what runs need and what is free decides; a sentence for the screen, or nothing."""

    def warm_up(self) -> None:
        """Begin, in the background, whatever the first task would wait for."""

    def run(self, tasks: Sequence[Task], listener: Listener = SILENT) -> list[Outcome]:
        """Run all of them, asking `Listener.look` before each start; the outcomes in the order of `tasks`."""

    def close(self) -> None:
        """End what waits for tasks."""


LAUNCHERS: dict[str, Callable[[Config, int], Launcher]] = {
    "local": local,
    "in_process": in_process,
    "ray": on_ray,
    "slurm": on_slurm,
}
"""`launcher=` -> a launcher for a configuration's settings and a number of runs."""
ENGINE_KEYS = {
    "launcher.address": "ray",
    "sweep.cpus_per_run": "ray",
    "sweep.gpus_per_run": "ray",
    "launcher.sbatch": "slurm",
    "launcher.on_exit": "slurm",
    "sweep.runs_per_job": "slurm",
}
"""Key -> the one launcher that reads it."""


def launcher_for(config: Config, *, num_runs: int) -> Launcher:
    """ValueError for a name that is none of `LAUNCHERS`, and what the launcher cannot do."""
    name = config.launcher.name
    if name not in LAUNCHERS:
        raise ValueError(f"launcher={name} is not one of its choices; choose one of {', '.join(LAUNCHERS)}.")
    refuse_keys_of_another_launcher(config)
    return LAUNCHERS[name](config, num_runs)


def refuse_keys_of_another_launcher(config: Config) -> None:
    """ValueError for a key that the chosen launcher would not read."""
    defaults = Config()
    for key, launcher in ENGINE_KEYS.items():
        section, _, name = key.partition(".")
        value, default = (getattr(getattr(one, section), name) for one in (config, defaults))
        if value != default and config.launcher.name != launcher:
            raise ValueError(f"{key}={value} is read by launcher={launcher} only, and launcher={config.launcher.name}.")


def reader_for(launcher: Launcher) -> Launcher:
    """Reads the data before the first run: on this machine, whatever the engine."""
    return launcher if launcher.here else LocalLauncher(1)

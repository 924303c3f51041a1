"""Where runs are executed. To add a launcher: a file with a `Launcher` here, and one line in `LAUNCHERS`."""

from __future__ import annotations

from collections.abc import Callable

from stridelab.config import Config

from ..launcher import Launcher
from .in_process import in_process
from .local import LocalLauncher, local
from .ray import on_ray
from .slurm import on_slurm

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

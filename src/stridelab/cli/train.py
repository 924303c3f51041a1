"""`python train.py [-m] key=value ...`"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .refusal import refusing

if TYPE_CHECKING:
    from stridelab.config import Config

INFORMATION = {"--hydra-help", "--version", "--cfg", "-c", "--info", "-i", "--shell-completion", "-sc"}
"""Flags that ask Hydra something; nothing runs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 0: all done; 1: refused or failed, with the reason; 129, 130, 143: interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(given):
        from .help import print_help

        return print_help()
    if not INFORMATION & {argument.partition("=")[0] for argument in given}:
        refuse_bad_input(given)
    return run_hydra()


def refuse_bad_input(arguments: Sequence[str]) -> None:
    """Check every point of the grid before Hydra, and anything else, starts."""
    from stridelab.config import expand

    overrides = [argument for argument in arguments if not argument.startswith("-")]
    with refusing():
        refuse_foreign_configurations(arguments)
        jobs = list(expand(overrides))
        for job in jobs:
            if job.config is None:
                raise ValueError(job.error)
        if len(jobs) > 1 and not {"-m", "--multirun"} & set(arguments) and not experiment_sweeps(overrides):
            raise ValueError(
                f"these arguments name {len(jobs)} runs; add -m to run them as a sweep: "
                f"python train.py -m {' '.join(repr(o) if '[' in o else o for o in overrides)}"
            )


def refuse_foreign_configurations(arguments: Sequence[str]) -> None:
    from stridelab.config.safety import FLAGS

    for argument in arguments:
        if argument.partition("=")[0] in FLAGS:
            raise ValueError(f"{argument}: configurations come from conf/ only; an experiment of yours belongs there.")


def experiment_sweeps(overrides: Sequence[str]) -> bool:
    return any(argument.startswith(("experiment=", "hydra.mode=")) for argument in overrides)


def run_hydra() -> None:
    import hydra
    from omegaconf import DictConfig

    from stridelab.config import CONF
    from stridelab.config.compose import register_schema

    register_schema()

    def one_run(_: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        from stridelab.config import load

        with refusing():
            raise SystemExit(start([load(HydraConfig.get().overrides.task)], multirun=False))

    hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")(one_run)()


def start(configs: Sequence[Config], *, multirun: bool) -> int:
    """Train them with the launcher that they name; the exit code."""
    from stridelab.sweep.launchers import launcher_for
    from stridelab.sweep.sweep import run_sweep

    return run_sweep(configs, launcher_for(configs[0], num_runs=len(configs)), multirun=multirun)

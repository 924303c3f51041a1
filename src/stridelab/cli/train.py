"""`stridelab train [-m] key=value ...`"""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from . import flags
from .program import command
from .refusal import refusing

if TYPE_CHECKING:
    from stridelab.config import Config

MOST_RUNS = 100_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Exit code 0: all done; 1: refused or failed, with the reason; 129, 130, 143: interrupted."""
    with refusing():
        code = train(flags.parse(sys.argv[1:] if arguments is None else arguments))
    sys.exit(code)


def train(asked: Namespace) -> int:
    from stridelab.config.axes import expand
    from stridelab.config.grid import grid_of

    if asked.help or asked.help_all or asked.version or asked.info:
        return answer(asked)
    if not asked.cfg and (grid := grid_of(asked.overrides, config_dir=asked.config_dir)).settings.search.name:
        from stridelab.search.search import run_search

        return run_search(grid, resend=f"{command('runs')} sync")
    jobs = list(islice(expand(asked.overrides, config_dir=asked.config_dir), MOST_RUNS + 1))
    if len(jobs) > MOST_RUNS:
        raise ValueError(f"these arguments name more than {MOST_RUNS:,} runs; stridelab plan lists any number.")
    configs = []
    for job in jobs:
        if job.config is None:
            raise ValueError(job.error)
        configs.append(job.config)
    if asked.cfg:
        return print_configuration(jobs[0].overrides, asked)
    multirun = asked.multirun or experiment_sweeps(asked)
    if len(configs) > 1 and not multirun:
        again = f"{command('train')} -m {shlex.join(asked.overrides)}"
        raise ValueError(f"these arguments name {len(configs)} runs; add -m to run them as a sweep: {again}")
    return start(configs, multirun=multirun)


def start(configs: Sequence[Config], *, multirun: bool) -> int:
    """Train them with the launcher that they name; the exit code."""
    from stridelab.sweep.launchers import launcher_for
    from stridelab.sweep.sweep import run_sweep

    launcher, resend = launcher_for(configs[0], num_runs=len(configs)), f"{command('runs')} sync"
    return run_sweep(configs, launcher, multirun=multirun, resend=resend)


def experiment_sweeps(asked: Namespace) -> bool:
    from stridelab.config.axes import experiment_sweeps, grid_axes

    return experiment_sweeps(grid_axes(asked.overrides, config_dir=asked.config_dir))


def answer(asked: Namespace) -> int:
    """What is asked without naming a run."""
    from stridelab import __version__
    from stridelab.config.compose import CONF

    from .help import print_help

    if asked.help or asked.help_all:
        print_help(everything=asked.help_all)
    else:
        print(f"stridelab {__version__}")
    if asked.info:
        print("\n".join(f"configurations: {folder}" for folder in (CONF, asked.config_dir) if folder))
        print(f"package: {sys.modules['stridelab'].__file__}\npython: {sys.version.split()[0]}, {sys.executable}")
    return 0


def print_configuration(overrides: Sequence[str], asked: Namespace) -> int:
    """Of a sweep, the first run's."""
    from stridelab.config.compose import as_yaml

    text = as_yaml(overrides, package=asked.package, resolve=asked.resolve)
    print(f"# @package {asked.package}\n{text}" if asked.package else text, end="")
    return 0

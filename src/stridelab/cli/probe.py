"""`stridelab probe probe=NAME[,NAME] [run=latest|<id, signature or name>] [sweep=latest|<name or id>]`"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .arguments import refuse_elsewhere, run_verb, split

if TYPE_CHECKING:
    from stridelab.config import Config
    from stridelab.tracking.mlflow_reader import RunRecord
    from stridelab.tracking.store import Store

USAGE = """\
Measure the trained network of a finished run, and record what is found in that run.

  stridelab probe probe=shift_consistency                    of the latest run
  stridelab probe probe=shift_consistency run=<id, signature or name>
  stridelab probe probe=<name>,<name> sweep=<name or id>     of every finished run of a sweep; sweep=latest

Values become the metrics probe/<name> of the run, and columns of the next comparison: stridelab compare.
paths.results_dir=, tracking.*=, data.root=, data.cache_dir= and data.download= say where things are here.

Probes:
"""


def main(arguments: Sequence[str] | None = None) -> None:
    run_verb(usage(), probe, arguments)


def usage() -> str:
    from stridelab.probes.catalog import PROBES

    return USAGE + "\n".join(
        f"  {name} ({', '.join(filter(None, (probe.unit, probe.better and f'{probe.better} is better')))})\n"
        f"      {probe.meaning}"
        for name, probe in PROBES.items()
    )


def probe(arguments: Sequence[str]) -> None:
    from rich.markup import escape

    from stridelab.config import load
    from stridelab.probes.catalog import PROBES, refuse_unknown
    from stridelab.sweep.progress import screen

    from .stored_runs import finished, send

    own, overrides = split(arguments, {"probe": "", "run": "", "sweep": ""})
    wanted = [name for name in own["probe"].split(",") if name]
    if not wanted:
        raise ValueError(f"probe= names what is measured; choose among {', '.join(PROBES)}.")
    refuse_unknown(wanted, key="probe")
    why = "the network and its data come from the run itself"
    refuse_elsewhere(overrides, why=why, own="probe=, run=, sweep=")
    here = load(overrides)
    runs = finished(records(here.store, run=own["run"], sweep=own["sweep"]), here.results)
    console = screen()
    failed = []
    for run in runs:
        try:
            values = probed(wanted, run.config, run.folder, overrides, here)
        except ValueError as error:
            failed.append(f"{run.record.name}: {error}")
            continue
        for metric, value in values.items():
            console.print(f"{escape(run.record.name)}  {metric}  {value:.4g}", soft_wrap=True)
    send(here.store, (run.folder for run in runs), console)
    if failed:
        raise ValueError("\n       ".join(failed))


def records(store: Store, *, run: str, sweep: str) -> Sequence[RunRecord]:
    from stridelab.tracking.find import find_run, find_sweep

    if run and sweep:
        raise ValueError(f"run={run} and sweep={sweep} are two things to measure; give one of them.")
    return find_sweep(store, sweep).runs if sweep else [find_run(store, run or "latest")]


def probed(
    names: Sequence[str], config: Config, folder: object, overrides: Sequence[str], here: Config
) -> dict[str, float]:
    from dataclasses import replace
    from pathlib import Path

    from stridelab.data.load import load as load_data
    from stridelab.plan import layer_plan_of
    from stridelab.probes.record import probe

    if not isinstance(folder, Path):
        raise ValueError("its folder is not on this machine, and its weights with it")
    places = {
        field: getattr(here.data, field)
        for field in ("root", "cache_dir", "download")
        if any(override.startswith(f"data.{field}=") for override in overrides)
    }
    data = load_data(replace(config.data, **places))
    return probe(names, layer_plan_of(config), data, config.trainer, seed=config.seed, folder=folder, task=config.task)

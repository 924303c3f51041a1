"""`python scripts/runs.py ui|sync|export|import [key=value ...]`"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stridelab.config import Config, load

from .arguments import asks_for_help, split
from .refusal import refusing

if TYPE_CHECKING:
    from stridelab.tracking.store import Store

USAGE = """\
Look after what has been run.

  python scripts/runs.py ui      open the store's pages in MLflow, on 127.0.0.1:5000
  python scripts/runs.py sync    send to the store what its absence has left in the run folders
  python scripts/runs.py export to=sweep.tar.gz [sweep=<name or id>]
                                 a sweep as one file: configurations, metrics, artifacts, environments (the latest
                                 sweep if none is named; .tar.gz or .zip)
  python scripts/runs.py import from=sweep.tar.gz
                                 a sweep that was exported, into this store and results folder; what is here already
                                 is left alone

paths.results_dir= and tracking.*= as in train.py."""


def main() -> None:
    arguments = sys.argv[1:]
    if asks_for_help(arguments) or not arguments:
        print(USAGE)
        return
    with refusing():
        verb, *rest = arguments
        if verb not in VERBS:
            raise ValueError(f"{verb!r} is not one of {', '.join(VERBS)}; see python scripts/runs.py --help.")
        VERBS[verb](rest)


def open_ui(arguments: Sequence[str]) -> None:
    from stridelab.tracking.links import ui_command

    command = ui_command(store_of(load(arguments)))
    print(command, flush=True)
    words = shlex.split(command)
    settings = dict(word.split("=", 1) for word in words if "=" in word.split("/")[0] and not word.startswith("-"))
    program = words[len(settings) :]
    os.execvpe(program[0], program, os.environ | settings)


def sync(arguments: Sequence[str]) -> None:
    from stridelab.tracking.sync import sync as send_all

    config = load(arguments)
    done = send_all(store_of(config), Path(config.paths.results_dir))
    for said in done.said:
        print(said)
    print("everything is in the store" if done.complete else "the store did not take everything")
    if not done.complete:
        sys.exit(1)


def export_sweep(arguments: Sequence[str]) -> None:
    from stridelab.tracking.transfer import export_sweep

    own, overrides = split(arguments, {"sweep": "latest", "to": ""})
    if not own["to"]:
        raise ValueError("to= must name the file to write, such as to=sweep.tar.gz.")
    config = load(overrides)
    results = Path(config.paths.results_dir)
    done = export_sweep(store_of(config), own["sweep"], Path(own["to"]), results=results)
    size = f"{done.num_bytes / 2**20:.1f} MiB"
    print(f"{done.sweep}: {done.num_runs} runs, {done.num_files} files, {size} in {done.path}")
    print(f"elsewhere: python scripts/runs.py import from={shlex.quote(done.path.name)}")


def import_sweep(arguments: Sequence[str]) -> None:
    from stridelab.tracking.transfer import import_sweep

    own, overrides = split(arguments, {"from": ""})
    if not own["from"]:
        raise ValueError("from= must name the file that runs.py export wrote.")
    config = load(overrides)
    done = import_sweep(Path(own["from"]), store_of(config), Path(config.paths.results_dir))
    if not done.new:
        print(f"{done.sweep}: all of it is here already")
    else:
        print(f"{done.sweep}: {sum(folder.parent.name == 'runs' for folder in done.new)} runs are new here")
    if done.new and done.num_known:
        print(f"{done.num_known} records were here already and are left alone")
    if not done.listed:
        print(
            "the sweep's own run was made here, and keeps its own list of runs; the new ones are found by their names"
        )
    for said in done.sent.said:
        print(said)
    if not done.sent.complete:
        sys.exit(1)
    print(f"compare:   python scripts/compare.py sweep={done.run_id or done.sweep}")
    print("reproduce: python scripts/reproduce.py run=<id of a run>")


def store_of(config: Config) -> Store:
    from stridelab.tracking.store import resolve_store

    return resolve_store(config.tracking, results_dir=Path(config.paths.results_dir))


VERBS: dict[str, Callable[[Sequence[str]], None]] = {
    "ui": open_ui,
    "sync": sync,
    "export": export_sweep,
    "import": import_sweep,
}

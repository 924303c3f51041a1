"""`stridelab runs list|best|show|diff|delete|ui|sync|export|import [key=value ...]`"""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stridelab import names
from stridelab.config import Config, load
from stridelab.text import plural

from .arguments import run_verb, split
from .program import command, here
from .run_details import delete_run, diff_runs, show_run
from .run_list import best_runs, list_runs

if TYPE_CHECKING:
    from stridelab.tracking.store import Store
    from stridelab.tracking.sync import Synced

USAGE = """\
Look after what has been run.

  stridelab runs list [sweep=latest] [where='test/acc>0.8, seed=0'] [sort=-test/acc] [limit=20]
                                 all runs, the newest first, with what differs between them; also
                                 columns=KEY,KEY and format=table|json|markdown|csv
  stridelab runs best [metric=test/acc] [limit=5] [where=...]
                                 the runs that are best by a metric
  stridelab runs show run=ID     figures, files and origin of one run
  stridelab runs diff ID ID      what differs: configuration, figures, code, packages (exit code 0: nothing)
  stridelab runs delete run=ID [yes=true]
                                 into MLflow's trash, and its folder into results/trash

  stridelab runs ui      the store's pages in MLflow on 127.0.0.1:5000, opened at the newest sweep (tracking.port=)
  stridelab runs sync    send to the store what its absence has left in the run folders
  stridelab runs sync to=http://HOST:PORT
                         move a SQLite store, all of it, to a tracking server (stridelab server): cut off, the same
                         command goes on; what the server then has is read back and compared by digest
  stridelab runs export to=sweep.tar.gz [sweep=<name or id>]
                                 a sweep as one file: configurations, metrics, artifacts, environments (the latest
                                 sweep if none is named; .tar.gz or .zip)
  stridelab runs import from=sweep.tar.gz
                                 a sweep that was exported, into this store and results folder; what is here already
                                 is left alone

paths.results_dir= and tracking.*= as in stridelab train."""


def main(arguments: Sequence[str] | None = None) -> None:
    given = list(sys.argv[1:] if arguments is None else arguments)
    run_verb(USAGE, look_after, given or ["--help"])


def look_after(arguments: Sequence[str]) -> int | None:
    name, *rest = arguments
    if name not in ACTIONS:
        raise ValueError(f"{name!r} is not one of {', '.join(ACTIONS)}; see stridelab runs --help.")
    return ACTIONS[name](rest)


def open_ui(arguments: Sequence[str]) -> None:
    from stridelab.tracking.links import ui_base, ui_command

    config = load(arguments)
    store, port = config.store, config.tracking.port
    page = newest_page(store, ui_base(store, port=port))
    if store.is_served:
        print(f"The store is a server with pages of its own: {page}")
        return
    refuse_busy(port)
    line = ui_command(store, port=port)
    print(f"{line}\n\n  {page}\n\nCtrl-C ends it.", flush=True)
    words = shlex.split(line)
    settings = dict(word.split("=", 1) for word in words if "=" in word.split("/")[0] and not word.startswith("-"))
    program = words[len(settings) :]
    if has_display():
        subprocess.Popen([sys.executable, "-m", "stridelab.cli.open_page", page, str(port)])
    os.execvpe(program[0], program, os.environ | settings)


def newest_page(store: Store, base: str) -> str:
    """Of the newest sweep's runs; the store's first page where there is no sweep."""
    from stridelab.tracking.links import sweep_link, view_link
    from stridelab.tracking.mlflow_reader import Reader

    try:
        newest = Reader(store).having({names.ROLE: "sweep"}, limit=1)
    except ValueError:  # no store yet, or a server that does not answer
        return base
    if not newest:
        return base
    link = view_link if names.VIEW in newest[0].tags else sweep_link
    return link(base, experiment_id=newest[0].experiment_id, run_id=newest[0].run_id)


def has_display() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def refuse_busy(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a closed one may linger
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ValueError(f"tracking.port={port} cannot be had ({error.strerror}); give another one.") from None


def sync(arguments: Sequence[str]) -> int:
    from stridelab.sweep.preflight import writable
    from stridelab.tracking.sync import sync as send_all

    own, overrides = split(arguments, {"to": ""})
    config = load(overrides)
    if own["to"]:
        return move_to(own["to"], config)
    if config.results.is_dir():
        writable(config.results)
    return tell(send_all(config.store, config.results))


def move_to(uri: str, config: Config) -> int:
    from stridelab.tracking.move import move
    from stridelab.tracking.settings import redact

    try:
        target = replace(config, tracking=replace(config.tracking, uri=uri)).store
    except ValueError as error:
        raise ValueError(str(error).replace("tracking.uri", "to=", 1)) from None
    source, results = config.store, config.results
    if source.database is None or source == target:
        raise ValueError("to=: only a SQLite store is moved, and to another one; tracking.uri= says which it is.")
    if not results.is_dir():
        raise ValueError(f"paths.results_dir={results}: there is no such folder, and so nothing to move.")
    done = move(source, results, target, told=lambda count, total: print(f"{count:,} of {total:,}", flush=True))
    for said in done.said:
        print(said)
    if not done.complete:
        print(f"{done.num_runs:,} runs are moved, not all; the same command goes on.")
        return 1
    print(f"{done.num_runs:,} runs are in {redact(uri)}, equal to the digest. From now on: tracking.uri={redact(uri)}")
    return 0


def export_sweep(arguments: Sequence[str]) -> None:
    from stridelab.tracking.transfer import export_sweep

    own, overrides = split(arguments, {"sweep": "latest", "to": ""})
    if not own["to"]:
        raise ValueError("to= must name the file to write, such as to=sweep.tar.gz.")
    config = load(overrides)
    done = export_sweep(config.store, own["sweep"], Path(own["to"]).expanduser(), results=config.results)
    size = f"{done.num_bytes / 2**20:.1f} MiB"
    print(f"{done.sweep}: {done.num_runs} runs, {done.num_files} files, {size} in {done.path}")
    print(f"elsewhere: {command('runs')} import from={shlex.quote(done.path.name)}")


def import_sweep(arguments: Sequence[str]) -> int:
    from stridelab.tracking.transfer import import_sweep

    own, overrides = split(arguments, {"from": ""})
    if not own["from"]:
        raise ValueError("from= must name the file that stridelab runs export wrote.")
    config = load(overrides)
    done = import_sweep(Path(own["from"]).expanduser(), config.store, config.results)
    if not done.new:
        print(f"{done.sweep}: all of it is here already")
    else:
        num_runs = sum(folder.parent.name == "runs" for folder in done.new)
        print(f"{done.sweep}: {plural(num_runs, 'run')} {'is' if num_runs == 1 else 'are'} new here")
    if done.new and done.num_known:
        print(f"{plural(done.num_known, 'record')} of it here already, left alone")
    if not done.listed:
        print(
            "the sweep's own run was made here, and keeps its own list of runs; the new ones are found by their names"
        )
    if tell(done.sent):
        return 1
    print(f"compare:   {here(command('compare'), overrides)} sweep={done.run_id or done.sweep}")
    print(f"reproduce: {here(command('reproduce'), overrides)} run=<id of a run>")
    return 0


def tell(done: Synced) -> int:
    for said in done.said:
        print(said)
    later = f"the store did not take everything; {command('runs')} sync sends the rest"
    print("everything is in the store" if done.complete else later)
    return 0 if done.complete else 1


ACTIONS: dict[str, Callable[[Sequence[str]], int | None]] = {
    "list": list_runs,
    "best": best_runs,
    "show": show_run,
    "diff": diff_runs,
    "delete": delete_run,
    "ui": open_ui,
    "sync": sync,
    "export": export_sweep,
    "import": import_sweep,
}

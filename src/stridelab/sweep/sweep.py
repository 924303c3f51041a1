"""A sweep, or one run: check, prepare, train, summarize."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from time import sleep

from rich.console import Console
from rich.markup import escape

from stridelab import names
from stridelab.config import Config
from stridelab.config.variants import refuse_mixed, sweep_name, varying_keys
from stridelab.plan import Variant, examine, print_plan
from stridelab.plan.space import variants_of
from stridelab.tracking.journal import JOURNAL, writer
from stridelab.tracking.provenance import cpu_facts
from stridelab.tracking.status import FAILED, FINISHED, put_aside_damaged, repair
from stridelab.tracking.sync import Mirror

from .agenda import Agenda, run_name
from .launcher import Launcher
from .launchers import reader_for
from .launchers.in_process import InProcessLauncher
from .parent import Incomplete, claim, describe, list_members
from .planner import Planner, Series, say
from .precision import slower_in_bf16
from .preflight import (
    enough_files,
    fetch_data,
    read_data_specs,
    refuse,
    refuse_bad_checkpoint,
    refuse_no_compiler,
    refuse_no_device,
    refuse_seeds_together,
    writable,
)
from .preload import load_ahead
from .preview import preview
from .probes import probe_runs
from .progress import screen
from .runs import settle_interrupted, train
from .signals import command, exit_code, signals_as_exceptions
from .summary import failed, say_failures, summarize

LOOK_AGAIN_S = 0.5
CLOSE_S, INTERRUPTED_S = 60.0, 10.0
"""Waited for a store that answers."""


def run_sweep(
    configs: Sequence[Config], launcher: Launcher, *, multirun: bool, resend: str = "", series: Series | None = None
) -> int:
    """Train every configuration; the exit code. ValueError or FileNotFoundError before anything is created. `resend`:
    the command that sends what the store has not taken, as the reader types it."""
    console = screen()
    with signals_as_exceptions():
        try:
            with closing(launcher):
                return carry_out(configs, launcher, console, multirun=multirun, resend=resend, series=series)
        except KeyboardInterrupt as interruption:
            console.print("\nInterrupted. The same command continues: what is finished is not done again.")
            console.print(f"  {escape(command())}", soft_wrap=True)
            return exit_code(interruption)


def carry_out(
    configs: Sequence[Config],
    launcher: Launcher,
    console: Console,
    *,
    multirun: bool,
    resend: str,
    series: Series | None = None,
) -> int:
    refuse_mixed(configs)
    first, keys = configs[0], varying_keys(configs)
    series = series or Series(keys)
    name = (first.sweep.name or sweep_name(configs)) if multirun else ""
    variants = [examine(config, keys=series.keys) for config in configs]
    variants = variants_of(variants, say=lambda said: console.print(said, soft_wrap=True))
    reader = InProcessLauncher() if first.sweep.preview else reader_for(launcher)  # a preview starts no process
    check(variants, stop=not multirun or first.on_invalid == "stop", here=launcher.here)
    store = first.store
    at_once = make_ready(variants, launcher, reader, console)
    if not first.sweep.preview:
        put_aside(first.results, console)
        if first.launcher.name != "in_process":
            load_ahead(store, report=multirun and first.sweep.report)
    announce(variants, at_once, console, plan=multirun and first.plan == "on", here=launcher.here)
    data_specs = read_data_specs(reader, [variant.config for variant in variants])
    if reader is not launcher:
        reader.close()
    planner = Planner(variants, series, name, data_specs, store, launcher, console)
    agenda = planner.agenda()
    stored = planner.stored(agenda)
    if first.sweep.preview:
        preview(agenda, by_name(variants), console, jobs=launcher.jobs, stored=stored)
        return 0
    repair(first.results)
    return train_all(planner.fetched(agenda, stored), planner, Mirror(store, resend=resend))


def make_ready(variants: Sequence[Variant], launcher: Launcher, reader: Launcher, console: Console) -> str:
    """Start what loads for seconds, and meanwhile refuse what this machine cannot do, fetch data and make the results
    folder; what is to be said of how many runs train at once."""
    configs = [variant.config for variant in variants]
    is_preview = configs[0].sweep.preview
    if not is_preview:
        reader.warm_up()
        launcher.warm_up()
    if launcher.here:
        refuse_no_device(configs, console)
    at_once = launcher.choose_jobs(variants)
    enough_files(launcher.jobs if launcher.here else 0)
    fetch_data((config.data for config in configs), download=not is_preview)
    if not is_preview:
        writable(configs[0].results)
    return at_once


def announce(variants: Sequence[Variant], at_once: str, console: Console, *, plan: bool, here: bool) -> None:
    """What a person sees before the first run."""
    if plan:
        print_plan(variants, console)
        console.print()
    say(at_once, console)
    if here and (slower := slower_in_bf16(variants, cpu_facts()["flags"])):
        console.print(f"[yellow]slower[/]  {escape(slower)}", soft_wrap=True)


def put_aside(results: Path, console: Console) -> None:
    for said in put_aside_damaged(results):
        console.print(f"[yellow]damaged[/]  {escape(said)}")


def check(variants: Sequence[Variant], *, stop: bool, here: bool) -> None:
    """ValueError or FileNotFoundError for what cannot be trained, before anything is created. `here`: on this
    machine."""
    refuse(variants, stop=stop)
    for variant in variants:
        refuse_bad_checkpoint(variant.config)
        refuse_seeds_together(variant.config)
        if here:
            refuse_no_compiler(variant.config)


def train_all(agenda: Agenda, planner: Planner, mirror: Mirror) -> int:
    """Train and summarize, and let the mirror go in the end; interrupted runs are settled."""
    launcher, console, patience_s = planner.launcher, planner.console, CLOSE_S
    try:
        if agenda.identity is not None:
            return train_sweep(agenda, planner, mirror)
        outcomes = train(agenda, launcher, mirror, console)
        probe_runs(agenda.specs, launcher, console)
        launcher.close()
        return summarize(agenda, outcomes, None, mirror, console)
    except (KeyboardInterrupt, OSError, SystemExit):  # of the screen, too: rich ends where nobody reads any more
        patience_s = INTERRUPTED_S
        settle_interrupted(agenda)
        raise
    finally:
        mirror.close(patience_s)


def by_name(variants: Sequence[Variant]) -> dict[str, Variant]:
    return {run_name(variant): variant for variant in variants}


def train_sweep(agenda: Agenda, planner: Planner, mirror: Mirror) -> int:
    """Train, and close under the sweep's own run. While another sweep of this name holds that run, the two share
    the work, and this one closes after the other."""
    series, launcher, console = planner.series, planner.launcher, planner.console
    mirror.watch(agenda.folder)
    with suppress(Incomplete), ExitStack() as stack:
        parent, outcomes = claim(agenda, stack), None
        if parent is None:
            holder = escape(writer(agenda.folder / JOURNAL))
            console.print(f"This sweep is being run by {holder}; the work is shared.")
            outcomes = train(agenda, launcher, mirror, console)
            while (parent := claim(agenda, stack)) is None:
                sleep(LOOK_AGAIN_S)
        list_members(parent, agenda)
        describe(parent, agenda, series.files)
        parent.tags({names.FOREIGN: "; ".join(f"{key}: {what}" for key, what in agenda.differences.items())})
        if outcomes is None:
            outcomes = train(agenda, launcher, mirror, console)
        while not failed(agenda, outcomes, diverged=False) and (more := planner.grown(agenda)) is not None:
            agenda = more
            list_members(parent, agenda)
            outcomes = train(agenda, launcher, mirror, console)
            describe(parent, agenda, series.files)
        if not series.compared:
            if any_failed := say_failures(failed(agenda, outcomes, diverged=False), console):
                raise Incomplete(any_failed)
            parent.tags({names.STATUS: FINISHED})
            return 0
        probe_runs(agenda.specs, launcher, console)
        launcher.close()
        list_members(parent, agenda)
        code = summarize(agenda, outcomes, parent, mirror, console)
        parent.tags({names.STATUS: FAILED if code else FINISHED})
        if code:
            raise Incomplete("not every run finished")
        return 0
    return 1

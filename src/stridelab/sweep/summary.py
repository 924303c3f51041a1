"""The end of a sweep: the comparison written and attached, the table shown, the places said."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from itertools import filterfalse
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from stridelab import names
from stridelab.config import Config
from stridelab.metrics import METRICS
from stridelab.tracking.find import SweepRecord, read_sweep
from stridelab.tracking.links import run_link, sweep_note, ui_base, ui_command, view_link
from stridelab.tracking.run import Run, amend
from stridelab.tracking.status import DIVERGED, FINISHED, read_result
from stridelab.tracking.store import analyze
from stridelab.tracking.sync import Mirror
from stridelab.tracking.view import wish
from stridelab.training.tasks import TASKS

from .agenda import Agenda
from .task import Outcome

if TYPE_CHECKING:
    from stridelab.report.comparison import Comparison

FLUSH_S = 120.0
"""Waited for a store that answers; one that fails gets seconds (tracking/sync.py)."""
SAID = {
    **{
        f"{of}{task.primary}": f"{METRICS[f'{of}{task.primary}'].label} {{:.4f}}"
        for task in TASKS.values()
        for of in ("test/", "final/val_")
    },
    "throughput/train_images_per_s": "{:,.0f} training images/s",
}
"""What is said of a run that stands alone."""

log = logging.getLogger(__name__)


def summarize(
    agenda: Agenda,
    outcomes: Sequence[Outcome],
    parent: Run | None,
    mirror: Mirror,
    console: Console,
) -> int:
    """Say what became of every run and where to look; 0 only if all of them finished."""
    measure_speed(agenda, console)
    complete = mirror.flush(FLUSH_S, patient=False, recheck=True)
    analyze(mirror.store)
    console.print()
    if not complete:
        console.print(f"[yellow]incomplete[/]  {escape(mirror.what_is_missing())}", soft_wrap=True)
    for said in mirror.what_is_odd():
        console.print(f"[yellow]store[/]  {escape(said)}", soft_wrap=True)
    if parent is not None:
        report(agenda, parent, mirror, console)
    else:
        show_run(agenda, outcomes, console)
    for signature, what in agenda.differences.items():
        name = next(spec.identity.name for spec in agenda.specs if spec.identity.signature == signature)
        console.print(f"[yellow]from elsewhere[/]  {escape(name)}: {escape(what)}; reuse=none trains it here.")
    failures = say_failures(failed(agenda, outcomes), console)
    show_places(agenda, mirror, console)
    return 1 if failures else 0


def say_failures(failures: Sequence[tuple[str, str]], console: Console) -> int:
    """How many there are."""
    for reason, runs in by_reason(failures).items():
        console.print(f"[red]not finished[/]  {escape(', '.join(runs))}: {escape(reason)}")
    return len(failures)


def measure_speed(agenda: Agenda, console: Console) -> None:
    """What `trainer.benchmark` asks for, unless all finished runs have it, from one session."""
    from stridelab.benchmark.session import Finished, is_measured, measure_runs

    specs = [spec for spec in agenda.specs if spec.config.trainer.benchmark and read_result(spec.folder) is not None]
    runs = [Finished(spec.identity.variant, spec.config, spec.folder) for spec in specs]
    if runs and not is_measured(runs):
        measure_runs(runs, console)


def failed(agenda: Agenda, outcomes: Sequence[Outcome], *, diverged: bool = True) -> list[tuple[str, str]]:
    """(run, status and reason) of all that did not finish, refused ones first; those that diverged among them or not:
    they do so every time."""
    refused = [(spec.identity.name, f"refused: {reason}") for spec, reason in agenda.refused]
    skipped = [
        (one.spec.identity.name, f"{one.status} in an earlier call, not tried again ({one.reason})")
        for one in agenda.skipped
        if diverged or one.status != DIVERGED
    ]
    ended = [
        (spec.identity.name, outcome.told)
        for spec, outcome in zip(agenda.to_do, outcomes, strict=True)
        if outcome.status not in ((FINISHED,) if diverged else (FINISHED, DIVERGED))
    ]
    return refused + skipped + ended


def by_reason(failures: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, reason in failures:
        grouped.setdefault(reason, []).append(name)
    return grouped


def report(agenda: Agenda, parent: Run, mirror: Mirror, console: Console) -> None:
    """The comparison in results/reports/, attached to the sweep's own run; its failure is said, never fatal."""
    from stridelab.report.comparison import compare
    from stridelab.report.notebook import seeds_seen, write_report
    from stridelab.report.terminal import print_variants

    config: Config = agenda.specs[0].config
    record = read_sweep(agenda.folder, mirror.store)  # the folders have all of it, whatever became of the store
    folder = config.results / "reports" / record.name
    comparison = compare(record, earlier=seeds_seen(folder))
    print_variants(comparison, console)
    describe_sweep(agenda, comparison, parent, mirror)
    if not config.sweep.report:
        return
    with console.status("writing the comparison ..."):
        try:
            paths = write_report(comparison, folder, store=mirror.store)
        except Exception as error:
            log.debug("report", exc_info=True)
            console.print(f"[red]The comparison could not be written:[/] {escape(str(error))}")
            return
    for path in paths.all:
        parent.artifact(path, to="figures" if path.parent.name == "figures" else "")
    console.print(f"\nNotebook  {paths.notebook}\nHTML      {paths.html}", soft_wrap=True)
    for problem in paths.problems:
        console.print(f"[yellow]in the notebook[/]  {escape(problem)}")


def describe_sweep(agenda: Agenda, comparison: Comparison, parent: Run, mirror: Mirror) -> None:
    """What the sweep's page in MLflow says first: the verdict, the table, and links to its runs."""
    from stridelab.report.paper import note

    metric = comparison.metric
    finished = int((comparison.runs["status"] == "finished").sum())
    scores = comparison.variants[f"{metric}_mean"].dropna() * comparison.measure.sign
    best = {} if scores.empty else {f"best/{metric.replace('/', '_')}": scores.max() * comparison.measure.sign}
    parent.metrics({"sweep/finished_runs": finished} | best, step=finished)
    claim_reused(agenda, comparison.sweep)
    epochs, smallest_first = metric.replace("test/", "val/"), comparison.measure.sign < 0
    parent.tags({names.VIEW: wish(metric, params=differing(agenda), epochs=epochs, smallest_first=smallest_first)})
    if (found := mirror.locate(agenda.folder)) is not None:
        place = {"experiment_id": found.experiment_id, "run_id": found.run_id}
        parent.tags({names.NOTE: sweep_note(note(comparison), num_runs=len(agenda.specs), **place)})


def claim_reused(agenda: Agenda, sweep: SweepRecord) -> None:
    """Runs that another sweep trained carry this one's tag too; its own get it where they are sent."""
    specs = {spec.identity.signature: spec for spec in agenda.specs}
    tag = names.in_sweep(sweep.name, sweep.tags[names.UID])
    for run in filterfalse(sweep.has_trained, sweep.runs):
        spec = specs[run.tags[names.SIGNATURE]]
        label = spec.identity.tags[names.LABEL]
        if run.tags.get(tag) != label:
            with suppress(ValueError, BlockingIOError), amend(spec.folder) as record:
                record.tags({tag: label})


def differing(agenda: Agenda) -> list[str]:
    """Parameters that differ between the variants; a list over layers as one word."""
    params = [spec.identity.params for spec in agenda.specs]
    keys = dict.fromkeys(key for one in params for key in one)
    return [
        key
        for key in keys
        if key != "seed" and not names.LAYER_PARAM.fullmatch(key) and len({one.get(key) for one in params}) > 1
    ]


def show_run(agenda: Agenda, outcomes: Sequence[Outcome], console: Console) -> None:
    """The numbers of a run that stands alone."""
    for spec in agenda.specs:
        if (result := read_result(spec.folder)) is None:
            continue
        if spec in agenda.done:
            console.print("This very run is finished already; force=true trains it again.")
        known = [text.format(result["metrics"][name]) for name, text in SAID.items() if name in result["metrics"]]
        console.print(f"[bold]{escape(spec.identity.name)}[/]  {', '.join(known)}")
        console.print(f"Folder    {spec.folder}", soft_wrap=True)


def show_places(agenda: Agenda, mirror: Mirror, console: Console) -> None:
    """How to see it all in MLflow."""
    found = mirror.locate(agenda.folder if agenda.identity else agenda.specs[0].folder)
    port = agenda.specs[0].config.tracking.port
    console.print(f"MLflow    {ui_command(mirror.store, port=port)}", soft_wrap=True)
    if found is not None:
        link = view_link if agenda.identity else run_link
        url = link(ui_base(mirror.store, port=port), experiment_id=found.experiment_id, run_id=found.run_id)
        console.print(f"  then    {url}", soft_wrap=True)

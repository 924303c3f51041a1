"""The runs of an agenda: trained by a launcher, and settled where they could not say how they ended."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from time import monotonic, sleep

from rich.console import Console
from rich.markup import escape

from stridelab import names
from stridelab.data.contents import contents_of
from stridelab.run import RunSpec, run
from stridelab.tracking.run import open_run
from stridelab.tracking.status import FINISHED, KILLED, REFUSED, is_open, read_status
from stridelab.tracking.status import settle as settle_run
from stridelab.tracking.sync import Mirror
from stridelab.training.tasks import primary_metrics

from .agenda import Agenda, is_finished
from .external_runs import ExternalRuns
from .gpu_jobs import shared_process
from .joint_runs import groups_of, run_groups
from .launcher import Launcher
from .progress import Board
from .task import Listener, Outcome, Task

DYING_S = 2.0
"""A process that was killed is not gone at once."""


def train(agenda: Agenda, launcher: Launcher, mirror: Mirror, console: Console) -> list[Outcome]:
    """All that is to do, seen on a board; a run that dies without a word is settled for it."""
    for spec, reason in agenda.refused:
        record_refusal(spec, reason)
    for spec in agenda.specs:
        mirror.watch(spec.folder)
    together = agenda.specs[0].config.sweep.seeds_together
    specs = [replace(spec, at_once=min(launcher.jobs * together, len(agenda.to_do))) for spec in agenda.to_do]
    board = Board(
        [spec.identity.name for spec in specs],
        epochs=[spec.config.trainer.max_epochs for spec in specs],
        images=[contents_of(spec.config.data).num_train for spec in specs],
        console=console,
    )
    external = ExternalRuns(specs, board)

    def ended(index: int, outcome: Outcome) -> None:
        if outcome.died:
            settle(specs[index], outcome, until=monotonic() + DYING_S)
        board.finished(index, in_words(outcome))

    listener = Listener(
        event=board.event,
        start=board.started,
        end=ended,
        look=external.look,
        stop=lambda outcome: agenda.specs[0].config.sweep.fail_fast and outcome.status != FINISHED,
    )
    with board:
        if together > 1:
            return run_groups(groups_of(specs, together), specs, launcher, listener)
        return launcher.run([task_of(spec) for spec in specs], listener)


def task_of(spec: RunSpec) -> Task:
    minutes = spec.config.trainer.timeout_min
    shares = shared_process(spec.config)
    return Task(run, (spec,), log=spec.folder / "output.txt", timeout_s=minutes and minutes * 60, shares=shares)


def in_words(outcome: Outcome) -> str:
    if outcome.status == FINISHED:
        metrics = outcome.value.metrics
        name = next((name for name in primary_metrics() if name in metrics), "test/acc")
        return f"{name.replace('/', ' ').replace('_', ' ')} {metrics.get(name, float('nan')):.4f}"
    return f"[red]{escape(outcome.told)}[/]"


def settle(spec: RunSpec, outcome: Outcome, *, until: float = 0.0) -> None:
    """Write down how a run ended that could not say; its process may take until `until` (monotonic) to be gone."""
    status = "KILLED" if outcome.status == KILLED else "FAILED"
    tags = {names.STATUS: outcome.status}
    while not settle_run(spec.folder, status=status, reason=outcome.reason or "", tags=tags):
        if monotonic() > until or not is_open(spec.folder, done=is_finished(spec.folder)):
            return
        sleep(0.05)


def record_refusal(spec: RunSpec, reason: str) -> None:
    """A run in the store too, so that the comparison can say why there are no numbers."""
    if read_status(spec.folder) == ("FAILED", f"ValueError: refused: {reason}"):
        return
    with suppress(ValueError, BlockingIOError), open_run(spec.folder, spec.identity) as record:
        record.tags({names.STATUS: REFUSED})
        raise ValueError(f"refused: {reason}")


def settle_interrupted(agenda: Agenda) -> None:
    until = monotonic() + DYING_S
    for spec in agenda.to_do:
        settle(spec, Outcome(reason="interrupted", status=KILLED), until=until)

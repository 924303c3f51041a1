"""Runs in this process, one after the other, for a debugger: no isolation, no log file, no time limits."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from time import sleep

from stridelab.config import Config
from stridelab.tracking.status import BUSY

from ..launcher import Launcher
from ..task import NOT_STARTED, SILENT, Listener, Outcome, Task, attempt
from .local import PRELOAD

LOOK_AGAIN_S = 0.2


def in_process(config: Config, num_runs: int) -> InProcessLauncher:
    return InProcessLauncher()


class InProcessLauncher(Launcher):
    jobs = 1
    here = True

    def warm_up(self) -> None:
        """Load now all that trains: a debugging session is long, and files are edited in it."""
        for module in PRELOAD:
            import_module(module)

    def run(self, tasks: Sequence[Task], listener: Listener = SILENT) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for index, task in enumerate(tasks):
            if outcomes and listener.stop(outcomes[-1]):
                rest = Outcome(reason="ended before it (sweep.fail_fast=true)", status=NOT_STARTED)
                return outcomes + [rest] * (len(tasks) - index)
            outcomes.append(run_one(index, task, listener))
            listener.end(index, outcomes[-1])
        return outcomes


def run_one(index: int, task: Task, listener: Listener) -> Outcome:
    while (known := listener.look(index)) is not None:
        if known.status != BUSY:
            return known
        sleep(LOOK_AGAIN_S)
    listener.start(index)
    return attempt(task, partial(listener.event, index))

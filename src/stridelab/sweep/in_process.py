"""Runs in this process, one after the other."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import sleep
from typing import Any

from stridelab.tracking.status import BUSY, status_of

from .task import NOT_STARTED, Listener, Outcome, Task, describe

LOOK_AGAIN_S = 0.2


class Here:
    """Tasks one after the other in this process, for a debugger; same interface as `Pool`, without time limits."""

    jobs = 1

    def warm_up(self) -> None: ...

    def call(self, task: Task, on_event: Callable[[Mapping[str, Any]], None] = lambda event: None) -> Any:
        return task.function(*task.arguments, progress=on_event)

    def run(self, tasks: Sequence[Task], listener: Listener | None = None) -> list[Outcome]:
        listener = listener or Listener()
        outcomes: list[Outcome] = []
        for index, task in enumerate(tasks):
            if outcomes and listener.stop(outcomes[-1]):
                outcomes.append(Outcome(reason="ended before it (sweep.fail_fast=true)", status=NOT_STARTED))
                continue
            outcomes.append(self.one(index, task, listener))
            listener.end(index, outcomes[-1])
        return outcomes

    def one(self, index: int, task: Task, listener: Listener) -> Outcome:
        while (known := listener.look(index)) is not None:
            if known.status != BUSY:
                return known
            sleep(LOOK_AGAIN_S)
        listener.start(index)
        try:
            return Outcome(value=task.function(*task.arguments, progress=partial(listener.event, index)))
        except Exception as error:
            traceback.print_exc()
            return Outcome(reason=describe(error), status=status_of(error))

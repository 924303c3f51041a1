"""The order in which tasks are started, waited for and stopped, wherever an engine executes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from stridelab.system.processes import undisturbed
from stridelab.tracking.status import BUSY, KILLED, OUT_OF_MEMORY

from .task import NOT_STARTED, Listener, Outcome, Task


class Engine(Protocol):
    """Executes tasks, and tells the listener that it was made with when each starts and what it says."""

    def start(self, index: int, task: Task) -> None: ...

    def ended(self) -> Iterator[tuple[int, Outcome]]:
        """Listen for a moment; those that have ended, with what became of them."""

    def end(self, indices: Collection[int]) -> None:
        """At once; when it returns, none of them runs, or each is as good as dead."""


class TaskQueue:
    """One call of `Launcher.run`: at most `at_once` tasks are with the engine. `again`: one that ran out of memory
    beside others is tried once more in the end, alone."""

    def __init__(
        self, engine: Engine, tasks: Sequence[Task], listener: Listener, *, at_once: int, again: bool = False
    ) -> None:
        self.engine, self.tasks, self.listener, self.at_once = engine, list(tasks), listener, at_once
        self.again = again
        self.waiting = deque(range(len(tasks)))
        self.alone: deque[int] = deque()
        """To be tried again."""
        self.running: set[int] = set()
        self.accompanied: set[int] = set()
        """Tasks beside which others ran."""
        self.outcomes: dict[int, Outcome] = {}

    def run(self) -> list[Outcome]:
        try:
            while self.waiting or self.running or self.alone:
                self.fill()
                for index, outcome in self.engine.ended():
                    if index in self.running:
                        self.running.remove(index)
                        self.ended(index, outcome)
        finally:
            with undisturbed():
                self.engine.end(self.running)
        return [self.outcomes[index] for index in range(len(self.tasks))]

    def fill(self) -> None:
        """Start what can be started; what another process is at goes to the end of the queue."""
        if self.alone and not self.waiting and not self.running:
            self.waiting.append(self.alone.popleft())
        for _ in range(len(self.waiting)):
            if not self.waiting or len(self.running) >= self.at_once:
                return
            index = self.waiting.popleft()
            known = self.listener.look(index)
            if known is None:
                self.running.add(index)
                self.accompanied.update(self.running if len(self.running) > 1 else ())
                self.engine.start(index, self.tasks[index])
            elif known.status == BUSY:
                self.waiting.append(index)
            else:
                self.ended(index, known)

    def ended(self, index: int, outcome: Outcome) -> None:
        if outcome.status == BUSY:
            self.waiting.append(index)
            return
        if self.again and outcome.status == OUT_OF_MEMORY and not outcome.died and index in self.accompanied:
            self.try_alone(index, outcome)
            return
        self.outcomes[index] = outcome
        self.listener.end(index, outcome)
        if self.listener.stop(outcome):
            self.stop(f"ended after run {index + 1} did not finish (sweep.fail_fast=true)")

    def try_alone(self, index: int, outcome: Outcome) -> None:
        """In a process of its own: those at rest, which hold memory of a card, are then ended."""
        self.accompanied.remove(index)
        self.tasks[index] = replace(self.tasks[index], shares="")
        self.alone.append(index)
        self.listener.event(index, {"said": f"{outcome.told}; it is tried again, alone, when the others have ended"})

    def stop(self, reason: str) -> None:
        running, self.running = self.running, set()
        self.engine.end(running)
        for index in sorted(running):
            self.outcomes[index] = Outcome(reason=reason, died=True, status=KILLED)
            self.listener.end(index, self.outcomes[index])
        for index in (*self.waiting, *self.alone):
            self.outcomes[index] = Outcome(reason=reason, status=NOT_STARTED)
        self.waiting.clear()
        self.alone.clear()

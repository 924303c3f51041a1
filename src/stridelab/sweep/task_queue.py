"""The order in which tasks are started, waited for and stopped, wherever an engine executes them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from stridelab.system.processes import undisturbed
from stridelab.tracking.status import BUSY, KILLED

from .task import NOT_STARTED, Listener, Outcome, Task


class Engine(Protocol):
    """Executes tasks, and tells the listener that it was made with when each starts and what it says."""

    def start(self, index: int, task: Task) -> None: ...

    def ended(self) -> Iterator[tuple[int, Outcome]]:
        """Listen for a moment; those that have ended, with what became of them."""

    def end(self, indices: Collection[int]) -> None:
        """At once; when it returns, none of them runs, or each is as good as dead."""


class TaskQueue:
    """One call of `Launcher.run`: at most `at_once` tasks are with the engine."""

    def __init__(self, engine: Engine, tasks: Sequence[Task], listener: Listener, *, at_once: int) -> None:
        self.engine, self.tasks, self.listener, self.at_once = engine, tasks, listener, at_once
        self.waiting = deque(range(len(tasks)))
        self.running: set[int] = set()
        self.outcomes: dict[int, Outcome] = {}

    def run(self) -> list[Outcome]:
        try:
            while self.waiting or self.running:
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
        for _ in range(len(self.waiting)):
            if not self.waiting or len(self.running) >= self.at_once:
                return
            index = self.waiting.popleft()
            known = self.listener.look(index)
            if known is None:
                self.running.add(index)
                self.engine.start(index, self.tasks[index])
            elif known.status == BUSY:
                self.waiting.append(index)
            else:
                self.ended(index, known)

    def ended(self, index: int, outcome: Outcome) -> None:
        if outcome.status == BUSY:
            self.waiting.append(index)
            return
        self.outcomes[index] = outcome
        self.listener.end(index, outcome)
        if self.listener.stop(outcome):
            self.stop(f"ended after run {index + 1} did not finish (sweep.fail_fast=true)")

    def stop(self, reason: str) -> None:
        running, self.running = self.running, set()
        self.engine.end(running)
        for index in sorted(running):
            self.outcomes[index] = Outcome(reason=reason, died=True, status=KILLED)
            self.listener.end(index, self.outcomes[index])
        for index in self.waiting:
            self.outcomes[index] = Outcome(reason=reason, status=NOT_STARTED)
        self.waiting.clear()

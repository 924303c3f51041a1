"""A child process as its parent sees it: it does a task, or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any

from stridelab.system.processes import oom_kills

from ..task import Outcome, Task, cause_of_death


@dataclass
class Child:
    process: BaseProcess
    pipe: Connection
    shares: str = ""
    """Of the tasks that it may do; empty: the one that it was started with."""
    card: str = ""
    """CUDA_VISIBLE_DEVICES of it; empty: as it is here."""
    task: Task | None = None
    """Given to it, and not taken yet."""
    is_ready: bool = False
    """Whether it waits for a task."""
    timeout_s: float | None = None
    began: float = field(default_factory=monotonic)
    oom_kills: int = field(default_factory=oom_kills)
    """Of the whole system, when the task was given."""
    outcome: Outcome | None = None

    @property
    def is_overdue(self) -> bool:
        return self.timeout_s is not None and monotonic() - self.began > self.timeout_s

    @property
    def goes_on(self) -> bool:
        """Whether it did its task and may take another."""
        return bool(self.shares) and self.outcome is not None and self.outcome.reason is None

    def give(self, task: Task) -> None:
        """Now, or as soon as it is ready: a task that waits in a full pipe would make its parent wait."""
        self.task, self.outcome = task, None
        self.timeout_s, self.began, self.oom_kills = task.timeout_s, monotonic(), oom_kills()
        self._hand_over()

    def _hand_over(self) -> None:
        if self.task is not None and self.is_ready:
            with suppress(OSError):  # it died a moment ago: its end is heard, and the task is still there
                self.pipe.send(self.task)
                self.task, self.is_ready = None, False

    def hear(self, on_event: Callable[[Mapping[str, Any]], None] = lambda event: None) -> bool:
        """What it has said by now; whether it can say more."""
        try:
            while not self.goes_on and self.pipe.poll():
                kind, content = self.pipe.recv()
                if kind == "event":
                    on_event(content)
                elif kind == "ready":
                    self.is_ready = True
                    self._hand_over()
                else:
                    self.outcome = content
        except (EOFError, OSError):  # the pipe of a child that was killed may be reset instead of closed
            return False
        return True

    def rest(self) -> Outcome | None:
        """What became of the task that it has done, which is forgotten."""
        outcome, self.outcome, self.timeout_s = self.outcome, None, None
        return outcome

    def is_fit(self, task: Task) -> bool:
        """Whether it, at rest, can be given the task."""
        return self.shares == task.shares and self.hear() and self.process.is_alive()


def finish(child: Child) -> Outcome:
    child.process.join()
    child.pipe.close()
    return child.outcome or cause_of_death(child.process.exitcode, killed_for_memory=oom_kills() > child.oom_kills)


def end_all(children: Iterable[Child]) -> None:
    """At once: whatever a run is doing, its folder outlives that, and a kind word could wait for a long batch."""
    children = list(children)
    for child in children:
        child.process.kill()
    for child in children:
        child.process.join()
        child.pipe.close()

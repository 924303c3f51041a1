"""What executes tasks somewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from stridelab.plan import Variant

from .task import SILENT, Listener, Outcome, Task


class Launcher(ABC):
    """Runs tasks somewhere, and promises:

    isolation   what a task does to its process (a crash, a leak, changed settings) reaches no other task;
    output      all that it prints goes to `Task.log`;
    progress    what it passes to `progress=` reaches `Listener.event`, in order and before its end;
    time limit  after `Task.timeout_s` it is ended, and its outcome is `timed out`;
    a dead run  has an outcome that says how it died, with `died=True`; the other tasks go on;
    stop        once `Listener.stop` says so, what runs is ended and nothing more is started; and when an exception
                (Ctrl-C) passes through `run`, nothing is left running.

    A launcher that cannot keep one of these says so in its first line.
    """

    jobs: int
    """Tasks at a time, at most."""
    here: bool
    """Whether this machine must have what runs need: devices, a compiler, open files; else another one may."""

    def choose_jobs(self, variants: Sequence[Variant]) -> str:
        """Set `jobs` anew where what runs need and what is free decides; a sentence for the screen, or nothing."""
        return ""

    def warm_up(self) -> None:
        """Begin, in the background, whatever the first task would wait for."""
        return

    @abstractmethod
    def run(self, tasks: Sequence[Task], listener: Listener = SILENT) -> list[Outcome]:
        """Run all of them, asking `Listener.look` before each start; the outcomes in the order of `tasks`."""

    def close(self) -> None:
        """End what waits for tasks."""
        return

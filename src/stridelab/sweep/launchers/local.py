"""Runs in child processes of one warm, preloaded process of this machine, `sweep.jobs` at a time."""

from __future__ import annotations

import atexit
import gc
import signal
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic, sleep

from stridelab.config import Config
from stridelab.system.processes import oom_kills, process_context, usable_cores, warm_up
from stridelab.tracking.status import BUSY, KILLED, TIMED_OUT

from ..task import NOT_STARTED, SILENT, Event, Listener, Outcome, Task, cause_of_death
from ..worker import run_task

PRELOAD = (
    *("stridelab.tracking.loaded_code", "stridelab.run", "stridelab.training.fit", "stridelab.sweep.worker"),
    *("stridelab.probes.record", "stridelab.tracking.images"),
)
"""All of ours that a child will need: what it loaded by itself could have been edited since the sweep began."""
LISTEN_S = 0.2
START_TRIES = 10

# Here and in the warm process: Python's last look for garbage among torch's or MLflow's objects takes a second.
atexit.register(gc.freeze)


def local(config: Config, num_runs: int) -> LocalLauncher:
    return LocalLauncher(jobs_at_once(config, runs=num_runs, cores=usable_cores()))


def jobs_at_once(config: Config, *, runs: int, cores: int) -> int:
    """`sweep.jobs`, or as many as the cores allow with `trainer.threads` each; one on a GPU."""
    on_cpu = config.trainer.accelerator == "cpu"
    wanted = config.sweep.jobs or (max(1, cores // (config.trainer.threads * config.trainer.devices)) if on_cpu else 1)
    return max(1, min(wanted, runs))


@dataclass
class Child:
    process: BaseProcess
    pipe: Connection
    timeout_s: float | None = None
    began: float = field(default_factory=monotonic)
    oom_kills: int = 0
    """Of the whole system, when the child began."""
    outcome: Outcome | None = None

    @property
    def is_overdue(self) -> bool:
        return self.timeout_s is not None and monotonic() - self.began > self.timeout_s


class LocalLauncher:
    """At most `jobs` tasks at once. The warm process starts loading at `warm_up`."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.context = process_context(PRELOAD)

    def warm_up(self) -> None:
        """Start the warm process now, in the background."""
        warm_up(self.context)

    def run(self, tasks: Sequence[Task], listener: Listener = SILENT) -> list[Outcome]:
        return TaskQueue(self, tasks, listener).run()

    def start(self, task: Task) -> Child:
        receive, send = self.context.Pipe(duplex=False)
        for tries_left in reversed(range(START_TRIES)):
            process = self.context.Process(target=run_task, args=(send, task), daemon=True)
            try:
                process.start()
                break
            except (ConnectionError, EOFError):  # the warm process was killed a moment ago; it is started again
                if not tries_left:
                    raise
                sleep(LISTEN_S)
        send.close()
        return Child(process, receive, task.timeout_s, oom_kills=oom_kills())


class TaskQueue:
    """One call of `LocalLauncher.run`."""

    def __init__(self, launcher: LocalLauncher, tasks: Sequence[Task], listener: Listener) -> None:
        self.launcher, self.tasks, self.listener = launcher, tasks, listener
        self.waiting = deque(range(len(tasks)))
        self.running: dict[int, Child] = {}
        self.outcomes: dict[int, Outcome] = {}

    def run(self) -> list[Outcome]:
        try:
            while self.waiting or self.running:
                self.fill()
                for index in hear(self.running, self.listener.event):
                    self.ended(index, finish(self.running.pop(index)))
                for index in [index for index, child in self.running.items() if child.is_overdue]:
                    self.end_overdue(index)
        finally:
            with undisturbed():
                end_all(self.running.values())
        return [self.outcomes[index] for index in range(len(self.tasks))]

    def fill(self) -> None:
        """Start what can be started; what another process is at goes to the end of the queue."""
        for _ in range(len(self.waiting)):
            if not self.waiting or len(self.running) >= self.launcher.jobs:
                return
            index = self.waiting.popleft()
            known = self.listener.look(index)
            if known is None:
                self.running[index] = self.launcher.start(self.tasks[index])
                self.listener.start(index)
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

    def end_overdue(self, index: int) -> None:
        child = self.running.pop(index)
        end_all([child])
        said = f"timed out after {(child.timeout_s or 0) / 60:.3g} min"
        self.ended(index, Outcome(reason=said, died=True, status=TIMED_OUT))

    def stop(self, reason: str) -> None:
        running, self.running = self.running, {}
        end_all(running.values())
        for index in running:
            self.outcomes[index] = Outcome(reason=reason, died=True, status=KILLED)
            self.listener.end(index, self.outcomes[index])
        for index in self.waiting:
            self.outcomes[index] = Outcome(reason=reason, status=NOT_STARTED)
        self.waiting.clear()


def hear(running: Mapping[int, Child], on_event: Event) -> Iterator[int]:
    """Pass on what the children say for a moment; yield those that have ended."""
    ready = wait([child.pipe for child in running.values()], timeout=LISTEN_S)
    for index, child in list(running.items()):
        if child.pipe in ready and not drain(index, child, on_event):
            yield index


def drain(index: int, child: Child, on_event: Event) -> bool:
    """Whether the child can still speak."""
    try:
        while child.pipe.poll():
            kind, content = child.pipe.recv()
            if kind == "event":
                on_event(index, content)
            else:
                child.outcome = content
    except (EOFError, OSError):  # the pipe of a child that was killed may be reset instead of closed
        return False
    return True


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


@contextmanager
def undisturbed() -> Iterator[None]:
    """A second Ctrl-C while children are ended would leave some behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

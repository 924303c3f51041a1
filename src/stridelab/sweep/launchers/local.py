"""Runs in child processes of one warm, preloaded process of this machine, `sweep.jobs` at a time."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic, sleep

from stridelab.config import Config
from stridelab.system.processes import oom_kills, process_context, usable_cores, warm_up
from stridelab.tracking.status import TIMED_OUT

from ..task import SILENT, Event, Listener, Outcome, Task, cause_of_death
from ..task_queue import TaskQueue
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

    here = True

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.context = process_context(PRELOAD)

    def warm_up(self) -> None:
        """Start the warm process now, in the background."""
        warm_up(self.context)

    def run(self, tasks: Sequence[Task], listener: Listener = SILENT) -> list[Outcome]:
        return TaskQueue(Children(self, listener), tasks, listener, at_once=self.jobs).run()

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


class Children:
    """The engine of one call of `LocalLauncher.run`."""

    def __init__(self, launcher: LocalLauncher, listener: Listener) -> None:
        self.launcher, self.listener = launcher, listener
        self.running: dict[int, Child] = {}

    def start(self, index: int, task: Task) -> None:
        self.running[index] = self.launcher.start(task)
        self.listener.start(index)

    def ended(self) -> Iterator[tuple[int, Outcome]]:
        ready = wait([child.pipe for child in self.running.values()], timeout=LISTEN_S)
        for index, child in list(self.running.items()):
            is_ready = index in self.running and child.pipe in ready
            if is_ready and not drain(index, child, self.listener.event):
                yield index, finish(self.running.pop(index))
        for index in [index for index, child in self.running.items() if child.is_overdue]:
            timeout_s = self.running[index].timeout_s or 0
            self.end([index])
            yield index, Outcome(reason=f"timed out after {timeout_s / 60:.3g} min", died=True, status=TIMED_OUT)

    def end(self, indices: Collection[int]) -> None:
        # An interruption may come between the queue's note of a start or an end and ours.
        end_all([self.running.pop(index) for index in list(indices) if index in self.running])


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

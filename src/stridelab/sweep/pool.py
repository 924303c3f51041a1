"""Runs in child processes of one warm, preloaded process: bounded in number, and what happens to one stays there."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
PRELOAD = ("stridelab.run", "stridelab.training.fitting")

Event = Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """A call for a child process; its output goes to `log`, and `progress=` is added to its arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    log: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a task: a value, or the reason why there is none."""

    value: Any = None
    reason: str | None = None
    died: bool = False
    """The process ended without a word: killed, out of memory, or exited by itself."""


@dataclass
class Child:
    process: BaseProcess
    pipe: Connection
    outcome: Outcome | None = None


class Pool:
    """At most `jobs` tasks at once. The warm process starts loading when the pool is made."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(list(PRELOAD))

    def warm_up(self) -> None:
        """Start the warm process now, in the background."""
        from multiprocessing import forkserver

        forkserver.ensure_running()

    def call(self, task: Task) -> Any:
        """One task, its value; RuntimeError with its reason if it has none."""
        (outcome,) = self.run([task], on_event=lambda index, event: None)
        if outcome.reason is not None:
            raise RuntimeError(outcome.reason)
        return outcome.value

    def run(
        self,
        tasks: Sequence[Task],
        *,
        on_event: Event,
        on_start: Callable[[int], None] = lambda index: None,
        on_end: Callable[[int, Outcome], None] = lambda index, outcome: None,
    ) -> list[Outcome]:
        """All tasks, their outcomes in the same order. On an exception here (Ctrl-C), the children are ended."""
        waiting = list(enumerate(tasks))[::-1]
        running: dict[int, Child] = {}
        outcomes: dict[int, Outcome] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.jobs:
                    index, task = waiting.pop()
                    running[index] = self.start(task)
                    on_start(index)
                for index in hear(running, on_event):
                    outcomes[index] = finish(running.pop(index))
                    on_end(index, outcomes[index])
        finally:
            for child in running.values():
                end(child)
        return [outcomes[index] for index in range(len(tasks))]

    def start(self, task: Task) -> Child:
        receive, send = self.context.Pipe(duplex=False)
        process = self.context.Process(target=work, args=(send, task))
        process.start()
        send.close()
        return Child(process, receive)


class Here:
    """Tasks one after the other in this process, for a debugger; same interface as `Pool`."""

    def warm_up(self) -> None: ...

    def call(self, task: Task) -> Any:
        return task.function(*task.arguments, progress=lambda event: None)

    def run(
        self,
        tasks: Sequence[Task],
        *,
        on_event: Event,
        on_start: Callable[[int], None] = lambda index: None,
        on_end: Callable[[int, Outcome], None] = lambda index, outcome: None,
    ) -> list[Outcome]:
        outcomes = []
        for index, task in enumerate(tasks):
            on_start(index)
            try:
                outcome = Outcome(value=task.function(*task.arguments, progress=partial(on_event, index)))
            except Exception as error:
                traceback.print_exc()
                outcome = Outcome(reason=describe(error))
            outcomes.append(outcome)
            on_end(index, outcome)
        return outcomes


def hear(running: Mapping[int, Child], on_event: Event) -> Iterator[int]:
    """Pass on what the children say for a moment; yield those that have ended."""
    ready = wait([child.pipe for child in running.values()], timeout=0.2)
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
    except EOFError:
        return False
    return True


def finish(child: Child) -> Outcome:
    child.process.join()
    child.pipe.close()
    return child.outcome or Outcome(reason=cause_of_death(child.process.exitcode), died=True)


def cause_of_death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = " (perhaps by the system, out of memory)" if -exit_code == signal.SIGKILL else ""
        return f"killed by {name}{hint}"
    return f"the process ended with exit code {exit_code} before the run was complete"


def end(child: Child) -> None:
    child.process.terminate()
    child.process.join(5)
    if child.process.is_alive():
        child.process.kill()
        child.process.join()


def work(pipe: Connection, task: Task) -> None:
    """In the child: do the task and say what came of it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    with output_to(task.log):
        try:
            value = task.function(*task.arguments, progress=lambda event: pipe.send(("event", dict(event))))
            outcome = Outcome(value=value)
        except Exception as error:
            traceback.print_exc()
            outcome = Outcome(reason=describe(error))
    pipe.send(("outcome", outcome))
    pipe.close()


def describe(error: BaseException) -> str:
    """The error in one line; a programming error also says where it came from."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, ValueError | FileNotFoundError) else f"{type(error).__name__}: {text}"


def die_with_parent() -> None:
    """Linux: be killed when the warm process goes, which goes when the main one does."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


@contextmanager
def output_to(log: Path | None) -> Iterator[None]:
    """Send everything that this process prints, native libraries included, to the end of a file."""
    if log is None:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

"""In the child process: do a task, or one after the other; tell how it goes, and die with the parent."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from stridelab.system.gpus import VISIBLE
from stridelab.system.processes import die_with_parent

from .task import Task, attempt


def work(pipe: Connection, task: Task | None, card: str) -> None:
    """Do the task. One that shares its process, or none, begins a series: the next comes through the pipe, as long as
    each ends well and leaves nothing behind. `card`: what CUDA_VISIBLE_DEVICES is to say, if anything."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    if card:
        os.environ[VISIBLE] = card
    with suppress(EOFError, BrokenPipeError):  # the parent wants no more
        if task is None or task.shares:
            serve(pipe, task)
        else:
            do(pipe, task)
    pipe.close()


def do(pipe: Connection, task: Task) -> bool:
    """Whether it ended well."""
    with output_to(task.log):
        faulthandler.enable()
        outcome = attempt(task, lambda event: pipe.send(("event", dict(event))))
    pipe.send(("outcome", outcome))
    return outcome.reason is None


def serve(pipe: Connection, task: Task | None) -> None:
    from .process_state import ProcessState, begin_cuda

    gc.freeze()  # what the warm process has loaded is looked through by no collection between two runs
    state = ProcessState()
    while task is None or (done(pipe, task) and state.restore()):
        with output_to(Path(os.devnull)):
            begin_cuda()
        pipe.send(("ready", None))
        task = pipe.recv()


def done(pipe: Connection, task: Task) -> bool:
    with warnings.catch_warnings():
        return do(pipe, task)


@contextmanager
def output_to(log: Path | None) -> Iterator[None]:
    """Send everything that this process prints, native libraries included, to the end of a file."""
    if log is None:
        yield
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    flush()
    kept = os.dup(1), os.dup(2)
    try:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        yield
    finally:
        flush()
        for before, now in zip(kept, (1, 2), strict=True):
            os.dup2(before, now)
            os.close(before)


def flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()

"""In the child process: do a task, tell how it goes, and die with the parent."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from stridelab.system.processes import die_with_parent

from .task import Task, attempt


def run_task(pipe: Connection, task: Task) -> None:
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    with output_to(task.log):
        faulthandler.enable()
        outcome = attempt(task, lambda event: pipe.send(("event", dict(event))))
    pipe.send(("outcome", outcome))
    pipe.close()


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
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    stream.flush()

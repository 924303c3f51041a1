"""A worker's process: it waits for a call, does it, answers, and computes nothing in between."""

from __future__ import annotations

import signal
from multiprocessing.connection import Connection
from typing import Any

from stridelab.system.processes import process_context, warm_up

from .workloads import Subject

PRELOAD = "stridelab.benchmark.worker"
END_S = 2.0


class Lost(Exception):
    """The process died; why, in words."""


class WorkerProcess:
    """Calls the methods of `Worker` over there."""

    def __init__(self, subject: Subject) -> None:
        context = process_context([PRELOAD])  # of no effect where the warm process of a sweep is there already
        warm_up(context)
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, subject), daemon=True)
        self.process.start()
        theirs.close()
        self.own_s = 0.0
        """Processor time that it had used when it last answered."""

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """ValueError with its message when that is what it raised; `Lost` for anything else."""
        try:
            self.pipe.send((method, arguments, named))
            kind, answer, self.own_s = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join(END_S)
            raise Lost(f"its process ended with exit code {self.process.exitcode}") from None
        if kind == "refused":
            raise ValueError(answer)
        if kind == "failed":
            raise Lost(answer)
        return answer

    def end(self) -> None:
        """At once: it holds nothing that is worth keeping."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


def serve(pipe: Connection, subject: Subject) -> None:
    """Until the other end is closed, or gone with its process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    from .worker import Worker

    worker: Worker | None = None
    while True:
        try:
            method, arguments, named = pipe.recv()
        except EOFError:
            return
        try:
            worker = worker or Worker(subject)
            found = getattr(worker, method)
            answer = ("done", found(*arguments, **named) if callable(found) else found)
        except ValueError as error:
            answer = ("refused", " ".join(str(error).split()))
        except Exception as error:
            answer = ("failed", " ".join(f"{type(error).__name__}: {error}".split()))
        pipe.send((*answer, worker.own_s() if worker else 0.0))

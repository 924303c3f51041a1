"""What a task is, and what can become of it."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stridelab.system.processes import CRASHES, KILL
from stridelab.tracking.status import BUSY, DIVERGED, FAILED, FINISHED, KILLED, OUT_OF_MEMORY, status_of

LOST = 255
"""Exit code that multiprocessing gives a child of whose end the warm process, itself dead, could not tell."""
NOT_STARTED = "not started"

Event = Callable[[int, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Task:
    """A call for a child process; its output goes to `log`, and `progress=` is added to its arguments."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    log: Path | None = None
    timeout_s: float | None = None
    shares: str = ""
    """Tasks with the same word may have one process, one after the other; empty: a process of its own."""


@dataclass(frozen=True)
class Outcome:
    """What became of a task: a value, or the reason why there is none."""

    value: Any = None
    reason: str | None = None
    died: bool = False
    """The process ended without a word: killed, out of memory, or exited by itself."""
    status: str = FINISHED
    """A word of tracking/status.py, or `not started`."""

    @property
    def told(self) -> str:
        """The status and the reason, without saying it twice (`killed by SIGKILL`)."""
        reason = self.reason or ""
        return reason if reason.startswith(self.status) else f"{self.status}: {reason}"


WAIT = Outcome(status=BUSY, reason="another process is at it")


@dataclass(frozen=True)
class Listener:
    """What a launcher tells and asks while tasks run; each is given the task's index."""

    event: Event = lambda index, event: None
    start: Callable[[int], None] = lambda index: None
    end: Callable[[int, Outcome], None] = lambda index, outcome: None
    look: Callable[[int], Outcome | None] = lambda index: None
    """Before a start: what is known of it already. `WAIT`: try again later. None: start it."""
    stop: Callable[[Outcome], bool] = lambda outcome: False
    """Whether this outcome ends everything."""


SILENT = Listener()


def cause_of_death(exit_code: int | None, *, killed_for_memory: bool = False) -> Outcome:
    if exit_code == LOST:
        return Outcome(reason="killed with the process that starts the runs", died=True, status=KILLED)
    if exit_code is None or exit_code >= 0:
        said = f"the process ended with exit code {exit_code} before the run was complete"
        return Outcome(reason=said, died=True, status=FAILED)
    name = signal.Signals(-exit_code).name
    if -exit_code in CRASHES:
        return Outcome(reason=f"crashed by {name}; output.txt says where", died=True, status=FAILED)
    if -exit_code == KILL and killed_for_memory:
        return Outcome(reason="killed by the system, out of memory", died=True, status=OUT_OF_MEMORY)
    hint = " (perhaps by the system, out of memory)" if -exit_code == KILL else ""
    return Outcome(reason=f"killed by {name}{hint}", died=True, status=KILLED)


def attempt(task: Task, progress: Callable[[Mapping[str, Any]], None]) -> Outcome:
    """Call it. What a user can mend is one sentence, in the log too; errors of ours have a traceback there."""
    try:
        return Outcome(value=task.function(*task.arguments, progress=progress))
    except Exception as error:
        with suppress(OSError):  # on a full disk, the reason still reaches the parent
            if not is_readable(error):
                traceback.print_exc()
            elif task.log is not None:
                print(describe(error), file=sys.stderr)
        return Outcome(reason=describe(error), status=status_of(error))


def carried(task: Task) -> Task:
    """The task for a queue on another machine: busy is a value there, since whether to wait is for the sweep to say."""
    return replace(task, function=unless_busy, arguments=(task.function, *task.arguments))


def unless_busy(function: Callable[..., Any], *arguments: Any, progress: Callable[[Mapping[str, Any]], None]) -> Any:
    try:
        return function(*arguments, progress=progress)
    except BlockingIOError:
        return WAIT


def carried_back(outcome: Outcome) -> Outcome:
    return WAIT if outcome.value == WAIT else outcome


def is_readable(error: BaseException) -> bool:
    """Whether its message is written for users."""
    return isinstance(error, ValueError | FileNotFoundError | MemoryError) or status_of(error) == DIVERGED


def describe(error: BaseException) -> str:
    """The error and its notes in one line; a programming error also says what kind it is."""
    text = " ".join(str(error).split()) or type(error).__name__
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    return f"{text}{notes}" if is_readable(error) else f"{type(error).__name__}: {text}{notes}"

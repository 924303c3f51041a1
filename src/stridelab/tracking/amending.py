"""Record more of a run that has ended, which stays as it ended: the same status, the same end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .journal import JOURNAL, Journal
from .run import Run
from .status import TERMINAL, read_status


@contextmanager
def amend(folder: Path) -> Iterator[Run]:
    """The run in `folder`. ValueError when it has not ended; BlockingIOError when another process is writing it."""
    folder = folder.resolve()
    status, _ = read_status(folder)
    if status not in TERMINAL:
        raise ValueError(f"{folder} holds no run that has ended: only those are amended.")
    journal = Journal(folder / JOURNAL)
    try:
        yield Run(folder, journal)
    finally:
        journal.close()

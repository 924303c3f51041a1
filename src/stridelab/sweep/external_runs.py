"""Runs that other processes are at: waited for, and taken as they end."""

from __future__ import annotations

from collections.abc import Sequence

from stridelab import names
from stridelab.run import RunSpec
from stridelab.tracking.journal import JOURNAL, is_live, writer
from stridelab.tracking.status import read_result, read_status, read_tag
from stridelab.training import Result

from .progress import Board
from .task import WAIT, Outcome


class ExternalRuns:
    def __init__(self, specs: Sequence[RunSpec], board: Board) -> None:
        self.specs, self.board = specs, board
        self.waited_for: set[int] = set()

    def look(self, index: int) -> Outcome | None:
        """See `Listener.look`. A run that failed under our eyes elsewhere has failed; one that was cut off is ours."""
        folder = self.specs[index].folder
        if is_live(folder / JOURNAL):
            if index not in self.waited_for:
                self.board.waits(index, writer(folder / JOURNAL))
            self.waited_for.add(index)
            return WAIT
        if (finished := read_result(folder)) is not None:
            return Outcome(value=Result(**finished))
        if index in self.waited_for:
            status, reason = read_status(folder)
            if status == "FAILED":
                return Outcome(reason=reason, status=read_tag(folder, names.STATUS) or "failed")
        return None

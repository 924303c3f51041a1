"""How busy the processor is with what is not ours."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

STAT = Path("/proc/stat")
IDLE = (3, 4)
"""Columns of /proc/stat that are no work: idle and iowait. Steal counts as work of others: it is the host's."""
GUEST = slice(8, None)
"""Columns that are counted in user and nice already."""


@dataclass(frozen=True)
class Load:
    """What others used of the processor in a stretch of time."""

    cores: float | None
    """On average; None where the system does not tell."""
    of: int


@dataclass(frozen=True)
class Moment:
    at: float
    """Of the monotonic clock."""
    busy_s: float | None
    """Processor time of the whole machine since it started."""
    own_s: float
    """Of our processes."""

    @classmethod
    def now(cls, *, own_s: float) -> Moment:
        return cls(monotonic(), busy_seconds(), own_s)

    def until(self, later: Moment) -> Load:
        of = os.cpu_count() or 1
        if self.busy_s is None or later.busy_s is None:
            return Load(None, of)
        others = (later.busy_s - self.busy_s) - (later.own_s - self.own_s)
        return Load(max(0.0, others / max(later.at - self.at, 1e-9)), of)


def busy_seconds() -> float | None:
    """Linux (man 5 proc_stat): all work of all processors since the start; None elsewhere."""
    try:
        name, *columns = STAT.read_text().partition("\n")[0].split()
        ticks = [int(column) for column in columns]
    except (OSError, ValueError):
        return None
    if name != "cpu" or len(ticks) <= max(IDLE):
        return None
    del ticks[GUEST]
    return (sum(ticks) - sum(ticks[column] for column in IDLE)) / os.sysconf("SC_CLK_TCK")

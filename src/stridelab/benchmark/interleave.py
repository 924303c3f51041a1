"""Variants take turns, round after round: what changes on the machine meanwhile meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import process_time, sleep
from typing import NamedTuple

from .cpu_load import Moment
from .process import Lost, Process
from .timing import Measured, Session, Timing
from .workloads import CELLS, Cell, Effort, Subject

Told = Callable[[str, float, float], None]
"""What is being done, and the seconds done and to do in all, as far as they are known."""


class Blocks(NamedTuple):
    """Of one variant in one cell."""

    passes: int
    seconds: float
    """About, of one block."""


def take_turns(subjects: Sequence[Subject], effort: Effort, *, told: Told = lambda what, done, all_s: None) -> Session:
    """Every cell of every subject in rounds, A B C A B C; one process computes at a time."""
    variants = {one.name: Measured(one.name, one.trainer.threads) for one in subjects}
    assert len(variants) == len(subjects), "a variant's name is its own"
    told("looking whether the machine is idle", 0.0, 0.0)
    idle = Moment.now(own_s=process_time())
    sleep(effort.idle_s)
    before = idle.until(Moment.now(own_s=process_time()))
    with processes() as started:
        blocks = dict(prepared(subjects, variants, effort, started, told))
        start = Moment.now(own_s=own_s(started.values()))
        a_round = sum(block.seconds for block in blocks.values())
        done = 0.0
        for number in range(effort.rounds):
            for (name, cell), block in blocks.items():
                told(f"round {number + 1} of {effort.rounds}", done, effort.rounds * a_round)
                if not variants[name].lost:
                    turn(variants[name], cell, block, started[name])
                done += block.seconds
        during = start.until(Moment.now(own_s=own_s(started.values(), ask=True)))
    return Session(variants, before, during)


@contextmanager
def processes() -> Iterator[dict[str, Process]]:
    """By variant; all of them end with the block."""
    started: dict[str, Process] = {}
    try:
        yield started
    finally:
        for process in started.values():
            process.end()


def prepared(
    subjects: Sequence[Subject],
    variants: dict[str, Measured],
    effort: Effort,
    started: dict[str, Process],
    told: Told,
) -> list[tuple[tuple[str, Cell], Blocks]]:
    """Every variant in every cell that it can do, in the order of a round: cell by cell, A B C."""
    found: dict[tuple[str, Cell], Blocks] = {}
    for subject in subjects:
        told(f"warming up {subject.name}", 0.0, 0.0)
        process = started[subject.name] = Process(subject)
        try:
            found |= warmed_up(variants[subject.name], process, effort)
        except Lost as lost:
            give_up(variants[subject.name], lost)
    return sorted(found.items(), key=lambda item: CELLS.index(item[0][1]))


def warmed_up(measured: Measured, process: Process, effort: Effort) -> dict[tuple[str, Cell], Blocks]:
    found = {}
    measured.device = process.call("device_name")
    for cell in CELLS:
        try:
            passes, seconds = process.call("prepare", cell, warm_up_s=effort.warm_up_s, block_s=effort.block_s)
        except ValueError as error:
            measured.refused[cell] = str(error)
            continue
        measured.timings[cell] = Timing(cell.batch)
        found[measured.name, cell] = Blocks(passes, passes * seconds)
    return found


def turn(measured: Measured, cell: Cell, block: Blocks, process: Process) -> None:
    try:
        measured.timings[cell].rounds.append(process.call("block", cell, passes=block.passes))
    except (Lost, ValueError) as error:
        give_up(measured, error)


def give_up(measured: Measured, error: Exception) -> None:
    measured.lost = str(error)
    measured.timings.clear()


def own_s(started: Collection[Process], *, ask: bool = False) -> float:
    """Processor time of this process and of the specimens'; `ask` them, or take what they last said."""
    for process in started if ask else ():
        with suppress(Lost):
            process.call("own_s")
    return process_time() + sum(process.own_s for process in started)

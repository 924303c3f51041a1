"""Variants take turns, round after round: what changes on the machine meanwhile meets all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import process_time, sleep
from typing import NamedTuple

from .cpu_load import Moment
from .process import Lost, WorkerProcess
from .timing import Session, Timing, VariantTimings
from .workloads import WORKLOADS, Effort, Subject, Workload

Told = Callable[[str, float, float], None]
"""What is being done, and the seconds done and to do in all, as far as they are known."""


class Blocks(NamedTuple):
    """Of one variant in one workload."""

    passes: int
    seconds: float
    """About, of one block."""


def take_turns(subjects: Sequence[Subject], effort: Effort, *, told: Told = lambda what, done, all_s: None) -> Session:
    """Every workload of every subject in rounds, A B C A B C; one process computes at a time."""
    variants = {one.name: VariantTimings(one.name, one.trainer.threads) for one in subjects}
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
            for (name, workload), block in blocks.items():
                told(f"round {number + 1} of {effort.rounds}", done, effort.rounds * a_round)
                if not variants[name].lost:
                    turn(variants[name], workload, block, started[name])
                done += block.seconds
        during = start.until(Moment.now(own_s=own_s(started.values(), ask=True)))
    return Session(variants, before, during)


@contextmanager
def processes() -> Iterator[dict[str, WorkerProcess]]:
    """By variant; all of them end with the block."""
    started: dict[str, WorkerProcess] = {}
    try:
        yield started
    finally:
        for process in started.values():
            process.end()


def prepared(
    subjects: Sequence[Subject],
    variants: dict[str, VariantTimings],
    effort: Effort,
    started: dict[str, WorkerProcess],
    told: Told,
) -> list[tuple[tuple[str, Workload], Blocks]]:
    """Every variant in every workload that it can do, in the order of a round: workload by workload, A B C."""
    found: dict[tuple[str, Workload], Blocks] = {}
    for subject in subjects:
        told(f"warming up {subject.name}", 0.0, 0.0)
        process = started[subject.name] = WorkerProcess(subject)
        try:
            found |= warmed_up(variants[subject.name], process, effort)
        except Lost as lost:
            give_up(variants[subject.name], lost)
    return sorted(found.items(), key=lambda item: WORKLOADS.index(item[0][1]))


def warmed_up(measured: VariantTimings, process: WorkerProcess, effort: Effort) -> dict[tuple[str, Workload], Blocks]:
    found = {}
    measured.device = process.call("device_name")
    for workload in WORKLOADS:
        try:
            passes, seconds = process.call("prepare", workload, warm_up_s=effort.warm_up_s, block_s=effort.block_s)
        except ValueError as error:
            measured.refused[workload] = str(error)
            continue
        measured.timings[workload] = Timing(workload.batch)
        found[measured.name, workload] = Blocks(passes, passes * seconds)
    return found


def turn(measured: VariantTimings, workload: Workload, block: Blocks, process: WorkerProcess) -> None:
    try:
        measured.timings[workload].rounds.append(process.call("block", workload, passes=block.passes))
    except (Lost, ValueError) as error:
        give_up(measured, error)


def give_up(measured: VariantTimings, error: Exception) -> None:
    measured.lost = str(error)
    measured.timings.clear()


def own_s(started: Collection[WorkerProcess], *, ask: bool = False) -> float:
    """Processor time of this process and of the workers'; `ask` them, or take what they last said."""
    for process in started if ask else ():
        with suppress(Lost):
            process.call("own_s")
    return process_time() + sum(process.own_s for process in started)

"""Seeds of a variant that train together in one process (`sweep.seeds_together`), each in a thread of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any

from stridelab.run import RunSpec, run
from stridelab.training.recorder import Progress

from .launcher import Launcher
from .task import WAIT, Listener, Outcome, Task, attempt

MEMBER = "member"
"""Key of an event: which of the runs it is of."""


def groups_of(specs: Sequence[RunSpec], size: int) -> list[list[int]]:
    """Indices of at most `size` runs that differ in nothing but the seed, in their order."""
    alike: dict[str, list[int]] = {}
    for index, spec in enumerate(specs):
        alike.setdefault(repr(replace(spec.config, seed=0)), []).append(index)
    return [those[start : start + size] for those in alike.values() for start in range(0, len(those), size)]


def run_groups(
    groups: Sequence[Sequence[int]], specs: Sequence[RunSpec], launcher: Launcher, listener: Listener
) -> list[Outcome]:
    """Outcomes in the order of `specs`; `listener` is told of runs, too."""
    joint = JointListener(groups, listener)
    tasks = [task_of([specs[index] for index in group]) for group in groups]
    return joint.of_runs(launcher.run(tasks, joint.of_groups()))


def task_of(specs: Sequence[RunSpec]) -> Task:
    """What they print goes to the first one's file."""
    minutes = specs[0].config.trainer.timeout_min
    return Task(run_jointly, (tuple(specs),), log=specs[0].folder / "output.txt", timeout_s=minutes and minutes * 60)


def run_jointly(specs: Sequence[RunSpec], *, progress: Progress) -> list[Outcome]:
    """BlockingIOError while another process trains one of them."""
    from stridelab.training.joint_steps import JointSteps

    joint, lock = JointSteps(len(specs)), Lock()

    def told(member: int, event: Mapping[str, Any]) -> None:
        with lock:
            progress({**event, MEMBER: member})

    def one(member: int) -> Outcome:
        seat = joint.seats[member]
        seat.enter()
        try:
            return attempt(Task(partial(run, seat=seat), (specs[member],)), partial(told, member))
        finally:
            seat.go()

    for spec in specs[1:]:
        spec.folder.mkdir(parents=True, exist_ok=True)
        with (spec.folder / "output.txt").open("a") as file:
            file.write(f"trains together with {specs[0].identity.name}: see {specs[0].folder / 'output.txt'}\n")
    with ThreadPoolExecutor(len(specs)) as pool:
        outcomes = list(pool.map(one, range(len(specs))))
    if any(outcome.status == WAIT.status for outcome in outcomes):
        raise BlockingIOError("another process trains one of them")  # those that have finished are not done again
    return outcomes


class JointListener:
    """Tells `listener`, which knows runs, what becomes of groups of them."""

    def __init__(self, groups: Sequence[Sequence[int]], listener: Listener) -> None:
        self.groups, self.listener = groups, listener

    def of_groups(self) -> Listener:
        return Listener(event=self.event, start=self.start, end=self.end, look=self.look, stop=self.stop)

    def event(self, group: int, event: Mapping[str, Any]) -> None:
        rest = dict(event)
        self.listener.event(self.groups[group][rest.pop(MEMBER, 0)], rest)

    def start(self, group: int) -> None:
        for index in self.groups[group]:
            self.listener.start(index)

    def end(self, group: int, outcome: Outcome) -> None:
        for index, one in zip(self.groups[group], self.members(group, outcome), strict=True):
            self.listener.end(index, one)

    def look(self, group: int) -> Outcome | None:
        """A run that has finished elsewhere finds its result by itself."""
        known = [self.listener.look(index) for index in self.groups[group]]
        if any(one is not None and one.status == WAIT.status for one in known):
            return WAIT
        return None if None in known else Outcome(value=known)

    def stop(self, outcome: Outcome) -> bool:
        outcomes = outcome.value if isinstance(outcome.value, list) else [outcome]
        return any(map(self.listener.stop, outcomes))

    def members(self, group: int, outcome: Outcome) -> list[Outcome]:
        """What took the process took all of them."""
        return outcome.value if isinstance(outcome.value, list) else [outcome] * len(self.groups[group])

    def of_runs(self, outcomes: Sequence[Outcome]) -> list[Outcome]:
        """Outcomes of groups -> of runs, in the order of their indices."""
        found = {
            index: one
            for group, outcome in enumerate(outcomes)
            for index, one in zip(self.groups[group], self.members(group, outcome), strict=True)
        }
        return [found[index] for index in sorted(found)]

"""Child processes of one warm process that do tasks.

A task has a process of its own, or, where it says with which others it may share one (runs on a GPU, where a process
takes a second to begin), one that has done such a task before and did it well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from multiprocessing.connection import wait
from time import sleep
from typing import Any

from stridelab.tracking.status import TIMED_OUT

from ..task import Listener, Outcome, Task
from ..worker import work
from .child import Child, end_all, finish

LISTEN_S = 0.2
START_TRIES = 10


class Pool:
    """`cards`: values of CUDA_VISIBLE_DEVICES, over which the children are spread; none: as it is here."""

    def __init__(self, context: Any, cards: Sequence[str]) -> None:
        self.context, self.cards = context, cards
        self.children: list[Child] = []
        self.at_rest: list[Child] = []
        """Those that did a task and may be given another."""
        self.others_begun = False

    def close(self) -> None:
        """End the children that wait for tasks."""
        at_rest, self.at_rest = self.at_rest, []
        end_all(at_rest)

    def start(self, task: Task) -> Child:
        """In a child at rest that is fit for it, one that is ready if there is one; else in a new one."""
        fit = sorted((child for child in self.at_rest if child.is_fit(task)), key=lambda child: not child.is_ready)
        if not fit:
            self.close()  # they would be too many, with the new one
            return self.begun(task, task.shares)
        self.at_rest.remove(fit[0])
        fit[0].give(task)
        return fit[0]

    def begin_others(self, shares: str, *, at_once: int) -> None:
        """Once, while a first task runs: children for those that will run beside others like it, so that these need
        not wait for their processes to begin."""
        if shares and not self.others_begun:
            self.others_begun = True
            self.at_rest += [self.begun(None, shares) for _ in range(at_once - 1 - len(self.at_rest))]

    def begun(self, task: Task | None, shares: str) -> Child:
        here, there = self.context.Pipe()
        self.children = [child for child in self.children if child.process.is_alive()]
        card = self.idlest_card()
        for tries_left in reversed(range(START_TRIES)):
            process = self.context.Process(target=work, args=(there, task, card), daemon=True)
            try:
                process.start()
                break
            except (ConnectionError, EOFError):  # the warm process was killed a moment ago; it is started again
                if not tries_left:
                    raise
                sleep(LISTEN_S)
        there.close()
        timeout_s = None if task is None else task.timeout_s
        self.children.append(Child(process, here, shares, card, timeout_s=timeout_s))
        return self.children[-1]

    def idlest_card(self) -> str:
        busy = Counter(child.card for child in self.children)
        return min(self.cards, key=lambda card: busy[card], default="")


class PooledTasks:
    """The engine of one call of `LocalLauncher.run`."""

    def __init__(self, pool: Pool, listener: Listener, *, at_once: int) -> None:
        self.pool, self.listener, self.at_once = pool, listener, at_once
        self.running: dict[int, Child] = {}

    def start(self, index: int, task: Task) -> None:
        self.running[index] = self.pool.start(task)
        self.listener.start(index)
        self.pool.begin_others(task.shares, at_once=self.at_once)

    def ended(self) -> Iterator[tuple[int, Outcome]]:
        ready = wait([child.pipe for child in self.running.values()], timeout=LISTEN_S)
        for index, child in list(self.running.items()):
            if child.pipe in ready and self.running.get(index) is child and (outcome := self.heard(index, child)):
                yield index, outcome
        for index in [index for index, child in self.running.items() if child.is_overdue]:
            timeout_s = self.running[index].timeout_s or 0
            self.end([index])
            yield index, Outcome(reason=f"timed out after {timeout_s / 60:.3g} min", died=True, status=TIMED_OUT)

    def heard(self, index: int, child: Child) -> Outcome | None:
        """What became of its task, if that is known by now."""
        speaks = child.hear(lambda event: self.listener.event(index, event))
        if child.goes_on:
            outcome = child.rest()
            self.pool.at_rest.append(self.running.pop(index))
            return outcome
        if speaks:
            return None
        if child.task is None:
            return finish(self.running.pop(index))
        self.end([index])  # it wanted no more before it took it
        self.running[index] = self.pool.start(child.task)
        return None

    def end(self, indices: Collection[int]) -> None:
        # An interruption may come between the queue's note of a start or an end and ours.
        end_all([self.running.pop(index) for index in list(indices) if index in self.running])

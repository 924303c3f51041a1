"""Runs in child processes of one warm, preloaded process of this machine, `sweep.jobs` at a time.

A task has a process of its own, or, where it says with which others it may share one (runs on a GPU, where a process
takes a second to begin), one that has done such a task before and did it well."""

from __future__ import annotations

import atexit
import gc
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from time import sleep
from typing import cast

from stridelab.config import Config
from stridelab.plan import Variant
from stridelab.system.gpus import Gpu, visible_gpus
from stridelab.system.processes import process_context, usable_cores, warm_up
from stridelab.tracking.status import TIMED_OUT

from ..devices import gpus_of_torch
from ..gpu_jobs import choose_here, largest_mib
from ..launcher import Launcher
from ..task import SILENT, Listener, Outcome, Task
from ..task_queue import TaskQueue
from ..worker import work
from .child import Child, end_all, finish

PRELOAD = (
    *("stridelab.tracking.loaded_code", "stridelab.run", "stridelab.training.fit", "stridelab.sweep.worker"),
    *("stridelab.probes.record", "stridelab.tracking.images"),
)
"""All of ours that a child will need: what it loaded by itself could have been edited since the sweep began."""
LISTEN_S = 0.2
START_TRIES = 10
ANSWER_S = 60.0

# Here and in the warm process: Python's last look for garbage among torch's or MLflow's objects takes a second.
atexit.register(gc.freeze)


def local(config: Config, num_runs: int) -> LocalLauncher:
    return LocalLauncher(jobs_at_once(config, runs=num_runs, cores=usable_cores()))


def jobs_at_once(config: Config, *, runs: int, cores: int) -> int:
    """`sweep.jobs`, or as many as the cores allow with `trainer.threads` each; one on a GPU."""
    on_cpu = config.trainer.accelerator == "cpu"
    wanted = config.sweep.jobs or (max(1, cores // (config.trainer.threads * config.trainer.devices)) if on_cpu else 1)
    return max(1, min(wanted, runs))


class LocalLauncher(Launcher):
    """At most `jobs` tasks at once. The warm process starts loading at `warm_up`. `cards`: values of
    CUDA_VISIBLE_DEVICES, over which the children are spread; none: as it is here."""

    here = True

    def __init__(self, jobs: int, *, cards: Sequence[str] = ()) -> None:
        self.jobs, self.cards = jobs, cards
        self.context = process_context(PRELOAD)
        self.children: list[Child] = []
        self.at_rest: list[Child] = []
        self.others_begun = False
        self.chosen_for = -1.0, 0
        """When `jobs` was chosen: memory that the largest run was predicted to need on a card, and the runs."""

    def choose_jobs(self, variants: Sequence[Variant]) -> str:
        """Of runs on GPUs: by predicted and free memory, cores and runs."""
        on_gpus = [variant for variant in variants if variant.config.trainer.accelerator in ("gpu", "auto")]
        need_mib = largest_mib(on_gpus)
        before, runs = self.chosen_for
        few = self.jobs == runs < len(variants)
        if not on_gpus or ((need_mib or 0.0) <= before and not few):
            return ""
        self.close()
        self.chosen_for = need_mib or 0.0, len(variants)
        config, gpus = on_gpus[0].config, self.gpus(asks=not variants[0].config.sweep.preview)
        if gpus == [] and config.trainer.accelerator == "auto":
            config = replace(config, trainer=replace(config.trainer, accelerator="cpu"))
            self.jobs = jobs_at_once(config, runs=len(variants), cores=usable_cores())
            return ""
        chosen = choose_here(config, gpus, need_mib=need_mib, runs=len(variants))
        self.jobs, self.cards = chosen.jobs, chosen.cards
        return chosen.said

    def gpus(self, *, asks: bool) -> list[Gpu] | None:
        """None where nobody says; `asks`: PyTorch too, in a child process, where nvidia-smi does not."""
        if (found := visible_gpus()) is not None or not asks:
            return found
        (outcome,) = self.run([Task(gpus_of_torch, (), timeout_s=ANSWER_S)])
        return cast(list[Gpu] | None, outcome.value)

    def warm_up(self) -> None:
        """Start the warm process now, in the background."""
        warm_up(self.context)

    def run(self, tasks: Sequence[Task], listener: Listener = SILENT) -> list[Outcome]:
        return TaskQueue(Children(self, listener), tasks, listener, at_once=self.jobs, again=True).run()

    def close(self) -> None:
        """End the children that wait for tasks."""
        at_rest, self.at_rest = self.at_rest, []
        end_all(at_rest)

    def start(self, task: Task) -> Child:
        """In a child at rest that is fit for it, one that is ready if there is one; else in a new one."""
        fit = sorted((child for child in self.at_rest if child.is_fit(task)), key=lambda child: not child.is_ready)
        if not fit:
            self.close()  # they would be more than `jobs`, with the new one
            return self.begun(task, task.shares)
        self.at_rest.remove(fit[0])
        fit[0].give(task)
        return fit[0]

    def start_others(self, shares: str) -> None:
        """Once, while a first task runs: children for those that will run beside others like it, so that these need
        not wait for their processes to begin."""
        if shares and not self.others_begun:
            self.others_begun = True
            self.at_rest += [self.begun(None, shares) for _ in range(self.jobs - 1 - len(self.at_rest))]

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


class Children:
    """The engine of one call of `LocalLauncher.run`."""

    def __init__(self, launcher: LocalLauncher, listener: Listener) -> None:
        self.launcher, self.listener = launcher, listener
        self.running: dict[int, Child] = {}

    def start(self, index: int, task: Task) -> None:
        self.running[index] = self.launcher.start(task)
        self.listener.start(index)
        self.launcher.start_others(task.shares)

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
            self.launcher.at_rest.append(self.running.pop(index))
            return outcome
        if speaks:
            return None
        if child.task is None:
            return finish(self.running.pop(index))
        self.end([index])  # it wanted no more before it took it
        self.running[index] = self.launcher.start(child.task)
        return None

    def end(self, indices: Collection[int]) -> None:
        # An interruption may come between the queue's note of a start or an end and ours.
        end_all([self.running.pop(index) for index in list(indices) if index in self.running])

"""Runs in child processes of one warm, preloaded process of this machine, `sweep.jobs` at a time."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from stridelab.config import Config
from stridelab.plan import Variant
from stridelab.system.gpus import Gpu, visible_gpus
from stridelab.system.processes import process_context, usable_cores, warm_up

from ..devices import gpus_of_torch
from ..gpu_jobs import choose_here, largest_mib
from ..launcher import Launcher
from ..task import SILENT, Listener, Outcome, Task
from ..task_queue import TaskQueue
from .pool import Pool, PooledTasks

PRELOAD = (
    *("stridelab.tracking.loaded_code", "stridelab.run", "stridelab.training.fit", "stridelab.sweep.worker"),
    *("stridelab.probes.record", "stridelab.tracking.images"),
)
"""All of ours that a child will need: what it loaded by itself could have been edited since the sweep began."""
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
    """At most `jobs` tasks at once. The warm process starts loading at `warm_up`. `cards`: see `Pool`."""

    here = True

    def __init__(self, jobs: int, *, cards: Sequence[str] = ()) -> None:
        self.jobs = jobs
        self.pool = Pool(process_context(PRELOAD), cards)
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
        self.jobs, self.pool.cards = chosen.jobs, chosen.cards
        return chosen.said

    def gpus(self, *, asks: bool) -> list[Gpu] | None:
        """None where nobody says; `asks`: PyTorch too, in a child process, where nvidia-smi does not."""
        if (found := visible_gpus()) is not None or not asks:
            return found
        (outcome,) = self.run([Task(gpus_of_torch, (), timeout_s=ANSWER_S)])
        return cast(list[Gpu] | None, outcome.value)

    def warm_up(self) -> None:
        """Start the warm process now, in the background."""
        warm_up(self.pool.context)

    def run(self, tasks: Sequence[Task], listener: Listener = SILENT) -> list[Outcome]:
        engine = PooledTasks(self.pool, listener, at_once=self.jobs)
        return TaskQueue(engine, tasks, listener, at_once=self.jobs, again=True).run()

    def close(self) -> None:
        """End the children that wait for tasks."""
        self.pool.close()

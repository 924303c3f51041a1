"""In a job of Slurm's: do its tasks, and write down what they say and what becomes of them."""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Any

from stridelab.run import RunSpec
from stridelab.system.gpus import visible_gpus
from stridelab.system.memory import available_mib
from stridelab.system.processes import usable_cores
from stridelab.tracking.status import KILLED, TIMED_OUT

from ..gpu_jobs import choose
from ..task import Listener, Outcome, Task, carried, carried_back
from .local import LocalLauncher

TASKS = "tasks.pickle"
START, EVENT, OUTCOME = "start", "event", "outcome"
Line = tuple[str, int, Any]
"""Kind, index of a task, content."""
KILL_S = 1.0
TOLD_TO_END, STOPPED = signal.SIGUSR2, signal.SIGTERM


def said_by(folder: Path, job: int) -> Path:
    return folder / f"said.{job}"


def read_lines(path: Path, *, after: int) -> tuple[list[Line], int]:
    """The whole lines from byte `after` on, and where they end. A line that two attempts of a job tore is left out."""
    try:
        with path.open("rb") as file:
            file.seek(after)
            block = file.read()
    except FileNotFoundError:
        return [], after
    block = block[: block.rfind(b"\n") + 1]
    return [line for text in block.splitlines() if (line := decoded(text))], after + len(block)


def decoded(text: bytes) -> Line | None:
    try:
        kind, index, content = json.loads(text)
        return kind, index, pickle.loads(base64.b64decode(content)) if kind == OUTCOME else content
    except (ValueError, pickle.UnpicklingError, EOFError):
        return None


class Ending(BaseException):
    """Slurm wants this job to end; its number is the signal."""


def main() -> None:
    """Arguments: the folder, the job's index in its array, the threads of a run, the memory of a card that it needs."""
    folder, job, threads, need_mib = sys.argv[1:5]
    sys.exit(work(Path(folder), int(job), threads=int(threads), need_mib=float(need_mib)))


def work(folder: Path, job: int, *, threads: int, need_mib: float = 0.0) -> int:
    path = said_by(folder, job)
    with (folder / TASKS).open("rb") as file:
        tasks: dict[int, Task] = pickle.load(file)[job]
    done = {index for kind, index, _ in read_lines(path, after=0)[0] if kind == OUTCOME}
    tasks = {index: task for index, task in tasks.items() if index not in done}
    indices, notes = list(tasks), Notes(path, list(tasks))
    for number in (TOLD_TO_END, STOPPED):
        signal.signal(number, end)
    try:
        cores = int(os.environ.get("SLURM_CPUS_PER_TASK") or usable_cores())
        listener = Listener(start=notes.start, event=notes.event, end=notes.end)
        launcher = launcher_here(list(tasks.values()), cores=cores, threads=threads, need_mib=need_mib)
        launcher.run([carried(tasks[index]) for index in indices], listener)
    except Ending as ending:
        for number in (TOLD_TO_END, STOPPED):
            signal.signal(number, signal.SIG_IGN)
        return notes.ended_by(ending.args[0])
    return 0


def launcher_here(tasks: Sequence[Task], *, cores: int, threads: int, need_mib: float) -> LocalLauncher:
    """As many runs at once as the job's processors allow; on a GPU, as its memory allows, too."""
    spec = next((one for task in tasks for one in task.arguments if isinstance(one, RunSpec)), None)
    if spec is None or spec.config.trainer.accelerator != "gpu":
        return LocalLauncher(max(1, cores // threads))
    config = replace(spec.config, sweep=replace(spec.config.sweep, jobs=None))
    here = {"cores": cores, "host_mib": available_mib()}
    chosen = choose(config, visible_gpus(), need_mib=need_mib or None, runs=len(tasks), **here)
    return LocalLauncher(chosen.jobs, cards=chosen.cards)


def end(number: int, frame: FrameType | None) -> None:
    raise Ending(number)


class Notes:
    """What the sweep reads: one line each."""

    def __init__(self, path: Path, indices: list[int]) -> None:
        self.path, self.indices = path, indices
        self.first_epoch: dict[int, float] = {}
        self.running: set[int] = set()
        self.got_on = False
        """Whether an epoch, or a run, has ended in this attempt of the job."""

    def write(self, kind: str, at: int, content: Any = None) -> None:
        with self.path.open("ab", buffering=0) as file:
            file.write(json.dumps([kind, self.indices[at], content], default=float).encode() + b"\n")

    def start(self, at: int) -> None:
        self.running.add(at)
        self.write(START, at)

    def event(self, at: int, event: Mapping[str, Any]) -> None:
        if "epoch" in event:
            self.got_on |= event["epoch"] > self.first_epoch.setdefault(at, event["epoch"])
        self.write(EVENT, at, dict(event))

    def end(self, at: int, outcome: Outcome) -> None:
        if outcome.status == KILLED:
            sleep(KILL_S)  # Slurm ends all processes of a job: if the run was not meant alone, this one ends here
        self.running.discard(at)
        self.got_on = True
        self.write(OUTCOME, at, base64.b64encode(pickle.dumps(carried_back(outcome))).decode())

    def ended_by(self, number: int) -> int:
        """Near its time limit, a job that got on is queued again, and goes on from its checkpoints."""
        if number == TOLD_TO_END and self.got_on:
            return subprocess.run(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]]).returncode
        if number == TOLD_TO_END:
            reason = "no epoch ended within its Slurm job's time limit; give a longer --time in launcher.sbatch"
            for at in sorted(self.running):
                self.end(at, Outcome(reason=reason, died=True, status=TIMED_OUT))
            return 0
        return 128 + number

"""Runs as an array of Slurm's jobs; each carries `sweep.runs_per_job` of them in child processes, as `local` does.

The sweep and its jobs speak through a folder under paths.results_dir, which the nodes must share. Slurm is asked about
its jobs by `scontrol`: accounting, which many clusters lack, is not needed.
"""

from __future__ import annotations

import pickle
import shlex
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

from stridelab.config import Config
from stridelab.plan import Variant

from ..gpu_jobs import largest_mib
from ..launcher import Launcher
from ..task import SILENT, WAIT, Listener, Outcome, Task
from ..task_queue import TaskQueue
from .slurm_cluster import (
    JobState,
    checks,
    max_array_size,
    outcome_of,
    refuse_bad_options,
    refuse_unfit_node,
    slurm,
    states,
    submit,
)
from .slurm_job import EVENT, OUTCOME, START, TASKS, read_lines, said_by

LISTEN_S, STATES_S, GRACE_S, GONE_S = 0.5, 3.0, 6.0, 40.0
"""Between looks at the folder, and at Slurm; for a network's file system to show what a job has left; for jobs that
are cancelled to end."""
SIGNAL_S = 90
"""Before its time limit, a job is told to end."""
FOLDER = "slurm"
GONE = JobState("GONE")
PROGRAM = "from stridelab.sweep.launchers.slurm_job import main; main()"


def on_slurm(config: Config, num_runs: int) -> SlurmLauncher:
    """ValueError when there is no Slurm here, it refuses such jobs, or its nodes cannot train."""
    for command in ("sbatch", "scontrol", "scancel"):
        if shutil.which(command) is None:
            raise ValueError(f"launcher=slurm: {command} is not found; give the command where Slurm's are installed.")
    per_job, sweep = config.sweep.runs_per_job, config.sweep
    num_jobs = -(-num_runs // per_job)
    if num_jobs > (most := max_array_size()):
        raise ValueError(
            f"sweep.runs_per_job={per_job} makes {num_jobs:,} jobs of these {num_runs:,} runs, and this Slurm takes "
            f"{most:,} in an array; give sweep.runs_per_job={-(-num_runs // most)} or more."
        )
    options = [f"--cpus-per-task={config.trainer.threads}", *shlex.split(config.launcher.sbatch)]
    refuse_bad_options(options, config.launcher.sbatch)
    results = config.results.absolute()
    if not sweep.preview:
        refuse_unfit_node(options, results)
    return SlurmLauncher(
        min(sweep.jobs or num_jobs, num_jobs),
        results / FOLDER,
        options,
        runs_per_job=per_job,
        threads=config.trainer.threads,
        leaves=config.launcher.on_exit == "leave",
    )


@dataclass
class SlurmLauncher(Launcher):
    jobs: int
    """Jobs of an array that run at once, at most; all of it is submitted, for Slurm to order."""
    folder: Path
    options: Sequence[str]
    """Of sbatch."""
    runs_per_job: int
    threads: int
    """Of each run."""
    leaves: bool
    """Whether jobs go on when this process is ended."""
    here: bool = False
    need_mib: float = 0.0
    """Of a card, predicted for the largest run; 0: it is not known, or none is asked for."""

    def choose_jobs(self, variants: Sequence[Variant]) -> str:
        """Each job chooses on its node how many of its runs train at once."""
        on_gpus = [variant for variant in variants if variant.config.trainer.accelerator == "gpu"]
        self.need_mib = largest_mib(on_gpus) or 0.0
        return ""

    def run(self, tasks: Sequence[Task], listener: Listener = SILENT) -> list[Outcome]:
        jobs = SlurmJobs(self, listener)
        outcomes = TaskQueue(jobs, tasks, listener, at_once=len(tasks)).run()
        clear(jobs.folders)
        return outcomes


@dataclass
class Job:
    """One of an array: `number` in Slurm's words, `<array>_<index>`."""

    number: str
    said: Path
    """The file that it writes to."""
    waits: set[int]
    """Tasks without an outcome."""
    begun: set[int] = field(default_factory=set)
    read: int = 0
    """Bytes of `said`."""
    ended_since: float | None = None
    """When Slurm was first seen to say so (monotonic)."""


class SlurmJobs:
    """The engine of one call of `SlurmLauncher.run`."""

    def __init__(self, launcher: SlurmLauncher, listener: Listener) -> None:
        self.launcher, self.listener = launcher, listener
        self.new: dict[int, Task] = {}
        self.jobs: list[Job] = []
        self.folders: list[Path] = []
        self.asked = monotonic()

    def start(self, index: int, task: Task) -> None:
        self.new[index] = task

    def ended(self) -> Iterator[tuple[int, Outcome]]:
        if self.new:
            self.submit()
        sleep(LISTEN_S)
        for job in self.jobs:
            yield from self.hear(job)
        if monotonic() - self.asked > STATES_S:
            if (known := self.states()) is not None:
                for job in self.jobs:
                    yield from self.missed(job, known.get(job.number, GONE))
            self.asked = monotonic()
        self.jobs = [job for job in self.jobs if job.waits]

    def submit(self) -> None:
        """One array of all that is new."""
        folder = self.launcher.folder / uuid4().hex[:12]
        folder.mkdir(parents=True, mode=0o700)
        self.folders.append(folder)
        indices, size = list(self.new), self.launcher.runs_per_job
        chunks = [indices[at : at + size] for at in range(0, len(indices), size)]
        with (folder / TASKS).open("wb") as file:
            pickle.dump([{index: self.new[index] for index in chunk} for chunk in chunks], file)
        program = shlex.join([sys.executable, "-c", PROGRAM, str(folder)])
        asked = f"{self.launcher.threads} {self.launcher.need_mib}"
        array = submit(
            *("--requeue", "--open-mode=append", f"--signal=B:USR2@{SIGNAL_S}", *self.launcher.options),
            *(f"--array=0-{len(chunks) - 1}%{self.launcher.jobs}", f"--output={folder}/output.%a.txt"),
            script=f"{checks(folder / TASKS)}\nexec {program} $SLURM_ARRAY_TASK_ID {asked}\n",
        )
        self.jobs += [Job(f"{array}_{at}", said_by(folder, at), set(chunk)) for at, chunk in enumerate(chunks)]
        self.new = {}

    def hear(self, job: Job) -> Iterator[tuple[int, Outcome]]:
        lines, job.read = read_lines(job.said, after=job.read)
        for kind, index, content in lines:
            if index not in job.waits:
                continue
            if kind == START:
                job.begun.add(index)
                self.listener.start(index)
            elif kind == EVENT:
                self.listener.event(index, content)
            elif kind == OUTCOME:
                job.waits.remove(index)
                yield index, content

    def states(self) -> dict[str, JobState] | None:
        return states(job.number.partition("_")[0] for job in self.jobs)

    def missed(self, job: Job, state: JobState) -> Iterator[tuple[int, Outcome]]:
        """What becomes of tasks whose job has ended without a word on them."""
        if not job.waits or not state.has_ended:
            job.ended_since = None
            return
        job.ended_since = job.ended_since or monotonic()
        if monotonic() - job.ended_since < GRACE_S:
            return
        outcome = outcome_of(state, output=job.said.with_name(f"output.{job.number.partition('_')[2]}.txt"))
        for index in sorted(job.waits):
            yield index, outcome if index in job.begun or not job.begun else WAIT  # the next array carries those
        job.waits.clear()

    def end(self, indices: Collection[int]) -> None:
        """Cancel the jobs that carry nothing else; when an exception ends this process, only if they are not left."""
        if self.launcher.leaves and sys.exc_info()[0]:
            return
        ending = {job.number for job in self.jobs if job.waits and job.waits <= set(indices)}
        if ending:
            slurm("scancel", *ending)
        until = monotonic() + GONE_S
        while ending and monotonic() < until:
            known = self.states() or {}
            ending = {number for number in ending if known.get(number, GONE).name in ("RUNNING", "COMPLETING")}
            sleep(LISTEN_S)


def clear(folders: Sequence[Path]) -> None:
    """Remove what the sweep and its jobs said to each other; what Slurm wrote of jobs that failed stays."""
    for folder in folders:
        for path in list(folder.iterdir()):
            if path.suffix != ".txt" or not path.stat().st_size:
                path.unlink()
        with suppress(OSError):  # something is left
            folder.rmdir()

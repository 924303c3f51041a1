"""Runs as an array of Slurm's jobs; each carries `sweep.runs_per_job` of them in child processes, as `local` does.

The sweep and its jobs speak through a folder under paths.results_dir, which the nodes must share. Slurm is asked about
its jobs by `scontrol`: accounting, which many clusters lack, is not needed.
"""

from __future__ import annotations

import pickle
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

from stridelab.config import Config
from stridelab.tracking.status import FAILED, KILLED, OUT_OF_MEMORY, TIMED_OUT

from ..task import SILENT, WAIT, Listener, Outcome, Task
from ..task_queue import TaskQueue
from .slurm_job import EVENT, OUTCOME, START, TASKS, read_lines, said_by

LISTEN_S, STATES_S, GRACE_S, GONE_S = 0.5, 3.0, 6.0, 40.0
"""Between looks at the folder, and at Slurm; for a network's file system to show what a job has left; for jobs that
are cancelled to end."""
SIGNAL_S = 90
"""Before its time limit, a job is told to end."""
ENDED = {
    "TIMEOUT": (TIMED_OUT, "its Slurm job reached its time limit"),
    "OUT_OF_MEMORY": (OUT_OF_MEMORY, "its Slurm job used more memory than it had asked for"),
    "CANCELLED": (KILLED, "its Slurm job was cancelled"),
    "PREEMPTED": (KILLED, "its Slurm job was preempted"),
    "NODE_FAIL": (KILLED, "the node of its Slurm job failed"),
    "GONE": (KILLED, "Slurm no longer knows its job"),
}
FAILURES = ("FAILED", "COMPLETED", "BOOT_FAIL", "DEADLINE", "REVOKED")
FOLDER = "slurm"
PROGRAM = "from stridelab.sweep.launchers.slurm_job import main; main()"


def on_slurm(config: Config, num_runs: int) -> SlurmLauncher:
    """ValueError when there is no Slurm here, or it refuses such jobs."""
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
    folder = Path(config.paths.results_dir).absolute() / FOLDER
    return SlurmLauncher(
        min(sweep.jobs or num_jobs, num_jobs),
        folder,
        options,
        runs_per_job=per_job,
        threads=config.trainer.threads,
        leaves=config.launcher.on_exit == "leave",
    )


def max_array_size() -> int:
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", slurm("scontrol", "show", "config").stdout)
    return int(found[1]) if found else 1001


def refuse_bad_options(options: Sequence[str], given: str) -> None:
    """ValueError with what `sbatch --test-only` says against them."""
    tried = slurm("sbatch", "--test-only", *options, "--wrap=true")
    if tried.returncode:
        said = " ".join(line.partition("error: ")[2] or line for line in tried.stderr.splitlines())
        partitions = ", ".join(slurm("sinfo", "--noheader", "--format=%R").stdout.split())
        there = f" Partitions: {partitions}." if partitions else ""
        raise ValueError(f"launcher.sbatch={given!r}: Slurm takes no such job: {said}.{there}")


def slurm(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True)


@dataclass
class SlurmLauncher:
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

    def warm_up(self) -> None:
        """Nothing: the nodes do that."""

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
            if (states := self.states()) is not None:
                for job in self.jobs:
                    yield from self.missed(job, states.get(job.number, ("GONE", "")))
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
        submitted = slurm(
            *("sbatch", "--parsable", "--job-name=stridelab", "--requeue", "--open-mode=append"),
            *(f"--signal=B:USR2@{SIGNAL_S}", f"--chdir={Path.cwd()}", f"--output={folder}/output.%a.txt"),
            *self.launcher.options,
            f"--array=0-{len(chunks) - 1}%{self.launcher.jobs}",
            text=f"#!/bin/sh\nexec {program} $SLURM_ARRAY_TASK_ID {self.launcher.threads}\n",
        )
        if submitted.returncode:
            raise ValueError(f"Slurm took no jobs: {' '.join(submitted.stderr.split())}")
        array = submitted.stdout.strip().partition(";")[0]
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

    def states(self) -> dict[str, tuple[str, str]] | None:
        """Number of a job -> its state and exit code; None when Slurm does not answer."""
        found: dict[str, tuple[str, str]] = {}
        for array in dict.fromkeys(job.number.partition("_")[0] for job in self.jobs):
            shown = slurm("scontrol", "--oneliner", "show", "job", array)
            if shown.returncode and "Invalid job id" not in shown.stderr:
                return None
            for line in shown.stdout.splitlines():
                fields = dict(re.findall(r"(\w+)=(\S*)", line))
                for at in members(fields.get("ArrayTaskId", "")):
                    found[f"{array}_{at}"] = (fields["JobState"], fields.get("ExitCode", ""))
        return found

    def missed(self, job: Job, state: tuple[str, str]) -> Iterator[tuple[int, Outcome]]:
        """What becomes of tasks whose job has ended without a word on them."""
        if not job.waits or (state[0] not in ENDED and state[0] not in FAILURES):
            job.ended_since = None
            return
        job.ended_since = job.ended_since or monotonic()
        if monotonic() - job.ended_since < GRACE_S:
            return
        outcome = outcome_of(*state, output=job.said.with_name(f"output.{job.number.partition('_')[2]}.txt"))
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
            states = self.states() or {}
            ending = {number for number in ending if states.get(number, ("GONE",))[0] in ("RUNNING", "COMPLETING")}
            sleep(LISTEN_S)


def clear(folders: Sequence[Path]) -> None:
    """Remove what the sweep and its jobs said to each other; what Slurm wrote of jobs that failed stays."""
    for folder in folders:
        for path in list(folder.iterdir()):
            if path.suffix != ".txt" or not path.stat().st_size:
                path.unlink()
        with suppress(OSError):  # something is left
            folder.rmdir()


def members(text: str) -> Iterator[int]:
    """`0-2,7%4`: the indices that one line of Slurm's stands for."""
    for part in text.partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            yield from range(int(first), int(last or first) + 1)


def outcome_of(state: str, exit_code: str, *, output: Path) -> Outcome:
    if state in ENDED:
        status, reason = ENDED[state]
        return Outcome(reason=reason, died=True, status=status)
    code, _, number = exit_code.partition(":")
    if number not in ("", "0"):
        return Outcome(reason=f"its Slurm job was killed by signal {number}", died=True, status=KILLED)
    said = f"its Slurm job ended ({state.lower()}, exit code {code}) without a word; {output} may say why"
    return Outcome(reason=said, died=True, status=FAILED)

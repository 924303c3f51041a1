"""What is asked of Slurm: which jobs it takes, what became of them, and whether a node of its can train."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from stridelab.tracking.status import FAILED, KILLED, OUT_OF_MEMORY, TIMED_OUT

from ..task import WAIT, Outcome
from .node import NO_FOLDER, NO_LOCKS, NO_PYTHON, NOT_SHARED, token

ANSWER_S, LOOK_AGAIN_S = 20.0, 0.3
"""For a first job to start and end, and between looks at it."""
ENDED = {
    "TIMEOUT": (TIMED_OUT, "its Slurm job reached its time limit"),
    "OUT_OF_MEMORY": (OUT_OF_MEMORY, "its Slurm job used more memory than it had asked for"),
    "CANCELLED": (KILLED, "its Slurm job was cancelled"),
    "PREEMPTED": (KILLED, "its Slurm job was preempted"),
    "NODE_FAIL": (KILLED, "the node of its Slurm job failed"),
    "GONE": (KILLED, "Slurm no longer knows its job"),
}
FAILURES = ("FAILED", "COMPLETED", "BOOT_FAIL", "DEADLINE", "REVOKED")
UNFIT = {71: NO_FOLDER, 72: NOT_SHARED, 73: NO_PYTHON, 74: NO_LOCKS}
"""Exit code of a job's script -> what its node lacks."""


def slurm(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=text, capture_output=True, text=True)


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


def refuse_unfit_node(options: Sequence[str], results: Path) -> None:
    """ValueError with what the node of a first, short job lacks. A queue may be long: after `ANSWER_S` nobody waits for
    it, and each job of the sweep says the same for its runs."""
    with token("slurm", results) as path:
        job = submit(*options, "--output=/dev/null", script=f"{checks(path)}\n{lock_check(path)}\n")
        until, state = monotonic() + ANSWER_S, JobState("PENDING")
        while not state.has_ended and monotonic() < until:
            sleep(LOOK_AGAIN_S)
            state = (states([job]) or {}).get(job, state)
        if not state.has_ended:
            slurm("scancel", job)
        elif (code := state.code) in UNFIT:
            raise ValueError(f"launcher=slurm: node {state.node} cannot train: {unfit(code, path.parent)}.")


def checks(shared: Path) -> str:
    """Lines of a job's script, which end it with a code of `UNFIT`; `shared`: a file that it must see."""
    folder, file, python = (shlex.quote(str(path)) for path in (Path.cwd(), shared, sys.executable))
    return f"#!/bin/sh\ncd {folder} || exit 71\n[ -r {file} ] || exit 72\n[ -x {python} ] || exit 73"


def lock_check(held: Path) -> str:
    """The line that ends it when it can lock a file which this process has locked."""
    return f"if command -v flock >/dev/null && flock --nonblock {shlex.quote(str(held))} true; then exit 74; fi"


def unfit(code: int, shared: Path) -> str:
    return UNFIT[code].format({71: Path.cwd(), 73: sys.executable}.get(code, shared))


def submit(*options: str, script: str) -> str:
    """The number of the job. ValueError when Slurm takes none."""
    submitted = slurm("sbatch", "--parsable", "--job-name=stridelab", *options, text=script)
    if submitted.returncode:
        raise ValueError(f"Slurm took no jobs: {' '.join(submitted.stderr.split())}")
    return submitted.stdout.strip().partition(";")[0]


@dataclass(frozen=True)
class JobState:
    name: str
    """Slurm's word, or GONE."""
    exit_code: str = ""
    """`<code>:<signal>`"""
    restarts: int = 0
    node: str = ""

    @property
    def has_ended(self) -> bool:
        return self.name in ENDED or self.name in FAILURES

    @property
    def code(self) -> int:
        return int(self.exit_code.partition(":")[0] or 0)

    @property
    def signal(self) -> int:
        """That it died of, or 0. Slurm says that of a script itself, or what a shell makes of it."""
        return int(self.exit_code.partition(":")[2] or 0) or (self.code - 128 if self.code > 128 else 0)


def states(jobs: Iterable[str]) -> dict[str, JobState] | None:
    """By the number of a job, `<array>_<index>` for those of an array; None when Slurm does not answer."""
    found: dict[str, JobState] = {}
    for job in dict.fromkeys(jobs):
        shown = slurm("scontrol", "--oneliner", "show", "job", job)
        if shown.returncode and "Invalid job id" not in shown.stderr:
            return None
        for line in shown.stdout.splitlines():
            said = dict(re.findall(r"(\w+)=(\S*)", line))
            state = JobState(
                said["JobState"], said.get("ExitCode", ""), int(said.get("Restarts", 0)), said.get("BatchHost", "")
            )
            found |= {f"{job}_{at}": state for at in members(said.get("ArrayTaskId", ""))} or {job: state}
    return found


def members(text: str) -> Iterator[int]:
    """`0-2,7%4`: the indices that one line of Slurm's stands for."""
    for part in text.partition("%")[0].split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            yield from range(int(first), int(last or first) + 1)


def outcome_of(state: JobState, *, output: Path) -> Outcome:
    """Of a run whose job has ended without a word on it."""
    if state.name in ENDED:
        status, reason = ENDED[state.name]
        return Outcome(reason=reason, died=True, status=status)
    if state.code in UNFIT:
        said = f"node {state.node} cannot train: {unfit(state.code, output.parent)}"
        return Outcome(reason=said, died=True, status=FAILED)
    if state.signal == signal.SIGTERM and state.restarts:
        # Nobody cancelled it: the node came back, and Slurm told it late to end the first attempt; that ended this one.
        return WAIT
    said = f"its Slurm job ended ({state.name.lower()}, exit code {state.exit_code}) without a word"
    if not output.exists():  # Slurm makes it before all else
        return Outcome(reason=f"{said}; does node {state.node} share {output.parent}?", died=True, status=FAILED)
    if state.signal:
        return Outcome(reason=f"its Slurm job was killed by signal {state.signal}", died=True, status=KILLED)
    return Outcome(reason=f"{said}; {output} may say why", died=True, status=FAILED)

"""Promise: launcher=slurm keeps what `local` promises, on a real Slurm: the bits, one result a run, whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from clusters import slurm_cluster, wait_until, why_no_slurm
from injection import TINY, Evidence, agenda_of, attempts, complete, evidence, sweep, task, wait_at, work_of

from stridelab.config import load
from stridelab.run import RunSpec
from stridelab.sweep.launchers import launcher_for
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.sweep.launchers.slurm import members, slurm
from stridelab.sweep.task import Listener, Outcome

pytestmark = pytest.mark.skipif(bool(why_no_slurm()), reason=f"no Slurm: {why_no_slurm()}")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "faults"), str(ROOT / "tests"), path or ""])
    try:
        with slurm_cluster() as folder:
            yield folder
    finally:
        os.environ.pop("PYTHONPATH")
        if path is not None:
            os.environ["PYTHONPATH"] = path


@pytest.fixture(scope="module")
def reference(pool: LocalLauncher, tmp_path_factory: pytest.TempPathFactory) -> list[Evidence]:
    """Of undisturbed runs of seeds 0 and 1, in child processes of this machine."""
    results = tmp_path_factory.mktemp("reference")
    return [complete(pool, work_of(results, f"seed={seed}")) for seed in (0, 1)]


def train(results: Path, works: list[RunSpec], listener: Listener, *how: Any, jobs: int = 2) -> list[Outcome]:
    """`works`, through Slurm; `how`: of each what is given to `task`."""
    config = load([f"paths.results_dir={results}", "launcher=slurm", f"sweep.jobs={jobs}"])
    tasks = [task(work, **(how[at] if at < len(how) else {})) for at, work in enumerate(works)]
    return launcher_for(config, num_runs=len(works)).run(tasks, listener)


def at_epoch(epoch: int, act: Callable[[], object]) -> Callable[[int, Mapping[str, Any]], None]:
    """A listener to events that acts once, when run 0 says that it is in that epoch."""
    left = [act]

    def event(index: int, event: Mapping[str, Any]) -> None:
        if index == 0 and event.get("epoch", 0) >= epoch and left:
            left.pop()()

    return event


def job(number: str = "0") -> str:
    """`<array>_<number>` of what runs."""
    for line in slurm("squeue", "--noheader", "--array", "--format=%F %K").stdout.splitlines():
        array, at = line.split()
        if at == number:
            return f"{array}_{at}"
    raise AssertionError("no such job")


def steps(number: str) -> list[psutil.Process]:
    """Slurm's own processes for a job, parents of what it carries."""
    (known,) = [line for line in slurm("scontrol", "-o", "show", "job", number).stdout.splitlines()]
    (job,) = [word.partition("=")[2] for word in known.split() if word.startswith("JobId=")]
    found = [one for one in psutil.process_iter() if one.name() == "slurmstepd"]
    return [one for one in found if one.status() != "zombie" and f"[{job}." in " ".join(one.cmdline())]


def begin_now(number: str) -> None:
    """Slurm lets a job that is queued again wait for two minutes."""
    wait_until(lambda: "PENDING" in slurm("scontrol", "-o", "show", "job", number).stdout, 30)
    wait_until(lambda: not slurm("scontrol", "update", f"JobId={number}", "StartTime=now").returncode, 30)


def test_a_job_of_several_runs_has_the_bits_of_child_processes(
    cluster: Path, reference: list[Evidence], tmp_path: Path
) -> None:
    asked = ("seed=0,1", "launcher=slurm", "sweep.runs_per_job=2", "launcher.sbatch=--cpus-per-task=2 --time=5")
    assert sweep(tmp_path, *asked) == 0
    works = agenda_of(tmp_path, *asked).specs
    assert [evidence(work.folder) for work in works] == reference
    assert not list((tmp_path / "slurm").iterdir()), "nothing is left of what they said to each other"


def test_a_job_that_is_killed_is_noticed_and_the_same_command_goes_on(
    cluster: Path, reference: list[Evidence], tmp_path: Path
) -> None:
    """Without accounting, too; the other run notices nothing."""
    works = list(agenda_of(tmp_path, "seed=0,1").specs)
    kill = at_epoch(2, lambda: [one.kill() for step in steps(job()) for one in step.children()])
    killed, other = train(tmp_path, works, Listener(event=kill), {"fault": "epoch.recorded:2:hang"})
    assert (killed.status, killed.died, other.status) == ("killed", True, "finished")
    assert killed.reason == "its Slurm job was killed by signal 9"
    assert sweep(tmp_path, "seed=0,1", "launcher=slurm") == 0
    assert [evidence(work.folder) for work in works] == reference
    assert [attempts(work.folder) for work in works] == [2, 1]


def test_near_its_time_limit_a_job_is_queued_again_and_goes_on(
    cluster: Path, reference: list[Evidence], tmp_path: Path
) -> None:
    """SIGUSR2 is what Slurm sends for `--signal=B:USR2@90`."""
    work = work_of(tmp_path, "seed=0")

    def near_the_end() -> None:
        number = job()
        slurm("scancel", "--batch", "--signal=USR2", number)
        begin_now(number)

    hang = {"fault": "epoch.recorded:3:hang", "once": tmp_path / "struck"}
    (outcome,) = train(tmp_path, [work], Listener(event=at_epoch(3, near_the_end)), hang)
    assert outcome.status == "finished"
    assert evidence(work.folder) == reference[0]
    assert attempts(work.folder) == 2


def test_a_job_too_short_for_an_epoch_is_not_queued_for_ever(cluster: Path, tmp_path: Path) -> None:
    near = at_epoch(1, lambda: slurm("scancel", "--batch", "--signal=USR2", job()))
    (outcome,) = train(tmp_path, [work_of(tmp_path)], Listener(event=near), {"fault": "epoch.trained:1:hang"})
    assert outcome.status == "timed out"
    assert "no epoch ended within its Slurm job's time limit" in (outcome.reason or "")


def test_the_ghost_of_a_job_that_was_started_again_writes_nothing_more(
    cluster: Path, reference: list[Evidence], tmp_path: Path
) -> None:
    """Slurm's process for the job dies, not the run, and the job is started again. The later attempt takes the run
    over and ends; then the ghost goes on, and is refused: one result, each metric once."""
    work, gate, ghosts = work_of(tmp_path, "seed=0"), tmp_path / "gate", list[psutil.Process]()

    def fail() -> None:
        number = job()
        carriers = steps(number)
        ghosts.extend(child for step in carriers for child in step.children(recursive=True))
        for one in carriers:
            one.kill()
        slurm("scontrol", "requeue", number)
        begin_now(number)

    wait = partial(wait_at, "epoch.recorded", 2, gate, tmp_path / "waits")
    (outcome,) = train(tmp_path, [work], Listener(event=at_epoch(2, fail)), {"setup": wait})
    assert outcome.status == "finished", outcome
    before = {path: path.read_bytes() for path in work.folder.rglob("*") if path.is_file()}
    assert any(ghost.is_running() for ghost in ghosts)
    gate.touch()
    assert not psutil.wait_procs(ghosts, timeout=60)[1]
    after = {path: path.read_bytes() for path in work.folder.rglob("*") if path.is_file()}
    changed = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed <= {"output.txt"}
    assert evidence(work.folder) == reference[0]
    assert attempts(work.folder) == 2


def test_the_sweep_is_killed_and_the_same_command_takes_what_its_jobs_do(
    cluster: Path, reference: list[Evidence], tmp_path: Path
) -> None:
    """Its jobs go on; a second sweep beside them trains nothing again."""
    asked = [*TINY, f"paths.results_dir={tmp_path}", "sweep.name=test", "seed=0,1", "launcher=slurm"]
    with subprocess.Popen([sys.executable, str(ROOT / "train.py"), "-m", *asked], cwd=ROOT, stdout=-1) as process:
        wait_until(lambda: list(tmp_path.glob("runs/*/run.json")), 60)
        process.kill()
    assert sweep(tmp_path, "seed=0,1", "launcher=slurm") == 0
    works = agenda_of(tmp_path, "seed=0,1").specs
    assert [evidence(work.folder) for work in works] == reference


@pytest.mark.faults
def test_an_interrupted_sweep_cancels_its_jobs_or_leaves_them(cluster: Path, tmp_path: Path) -> None:
    """`launcher.on_exit`; what is left is finished, and nobody waits for it."""
    for on_exit, left in (("cancel", 0), ("leave", 2)):
        results = tmp_path / on_exit
        asked = [*TINY, f"paths.results_dir={results}", "seed=0,1", "trainer.max_epochs=60", "launcher=slurm"]
        command = [sys.executable, str(ROOT / "train.py"), "-m", *asked, f"launcher.on_exit={on_exit}"]
        with subprocess.Popen(command, cwd=ROOT, stdout=-1, text=True) as process:
            wait_until(lambda results=results: len(list(results.glob("runs/*/run.json"))) == 2, 60)
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate()
        assert process.returncode == 130
        assert "The same command continues" in said
        assert len(slurm("squeue", "--noheader", "--array").stdout.splitlines()) == left
    wait_until(lambda: len(list(results.glob("runs/*/result.json"))) == 2, 60)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launcher.sbatch=--partition=nope"], r"--partition=nope.*Slurm takes no such job.*Partitions: debug\."),
        (["launcher.sbatch=--nodes=many"], r"launcher\.sbatch='--nodes=many': Slurm takes no such job"),
        (["seed=range(3000)"], r"makes 3,000 jobs .* takes 1,001 in an array; give sweep\.runs_per_job=3 or more"),
    ],
)
def test_what_slurm_would_refuse_is_said_before_anything_is_made(
    cluster: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        sweep(tmp_path / "results", "launcher=slurm", *words)
    assert not (tmp_path / "results").exists()


def test_jobs_of_an_array_are_told_from_one_line_of_slurms() -> None:
    assert list(members("0-2,7%4")) == [0, 1, 2, 7]
    assert list(members("12")) == [12]
    assert list(members("")) == []

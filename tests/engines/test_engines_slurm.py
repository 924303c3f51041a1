"""Promise: launcher=slurm keeps what `local` promises, on a real Slurm: the bits, one result a run, whatever dies."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from clusters import Slurm, slurm_cluster, wait_until, why_no_slurm
from injection import Evidence, attempts, evidence, hang_in_turn, sweep, task, wait_at
from scenarios import (
    SEEDS,
    a_search,
    expected,
    in_sqlite,
    specs,
    the_driver_is_killed,
    the_store_goes_away,
    times_trained,
    two_drivers,
)

from stridelab.config import load
from stridelab.run import RunSpec
from stridelab.sweep.launchers import launcher_for
from stridelab.sweep.launchers.slurm import SlurmLauncher
from stridelab.sweep.launchers.slurm_cluster import UNFIT, checks, lock_check, members, slurm
from stridelab.sweep.task import Listener, Outcome
from stridelab.system.locks import Lock
from tracking_stores import Team

pytestmark = pytest.mark.skipif(bool(why_no_slurm()), reason=f"no Slurm: {why_no_slurm()}")
WORDS = ["launcher=slurm"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Slurm]:
    with slurm_cluster() as made:
        yield made


def train(results: Path, runs: list[RunSpec], listener: Listener, *how: Any, on_exit: str = "cancel") -> list[Outcome]:
    """`runs`, through Slurm; `how`: of each what is given to `task`."""
    config = load([f"paths.results_dir={results}", *WORDS, f"launcher.on_exit={on_exit}"])
    tasks = [task(spec, **(how[at] if at < len(how) else {})) for at, spec in enumerate(runs)]
    return launcher_for(config, num_runs=len(runs)).run(tasks, listener)


def once(acts: dict[int, Any]) -> Listener:
    """Does for each run what is to do for it once it says that it is in its second epoch, or later."""

    def event(index: int, event: Mapping[str, Any]) -> None:
        if event.get("epoch", 0) >= 2 and index in acts:
            acts.pop(index)()

    return Listener(event=event)


def job(number: int = 0) -> str:
    """`<array>_<number>` of what runs."""
    for line in slurm("squeue", "--noheader", "--array", "--states=running", "--format=%F %K").stdout.splitlines():
        array, at = line.split()
        if int(at) == number:
            return f"{array}_{at}"
    raise AssertionError("no such job")


def shown(job: str) -> dict[str, str]:
    (line,) = slurm("scontrol", "--oneliner", "show", "job", job).stdout.splitlines()
    return dict(word.partition("=")[::2] for word in line.split())


def steps(job: str) -> list[psutil.Process]:
    """Slurm's own processes for it, parents of what it carries."""
    name = f"[{shown(job)['JobId']}."
    found = [one for one in psutil.process_iter() if one.name() == "slurmstepd" and one.status() != "zombie"]
    return [one for one in found if name in " ".join(one.cmdline())]


def begin_now(job: str) -> None:
    """Slurm lets a job that is queued again wait for two minutes. In the second in which it has told a node to end the
    first attempt, it takes the next for that one, and fails it."""
    wait_until(lambda: shown(job)["JobState"] == "PENDING", 90)
    time.sleep(2)
    wait_until(lambda: not slurm("scontrol", "update", f"JobId={job}", "StartTime=now").returncode, 30)


def test_a_job_of_several_runs_has_the_bits_of_child_processes(
    cluster: Slurm, reference: list[Evidence], tmp_path: Path
) -> None:
    asked = [*WORDS, "sweep.runs_per_job=3", "launcher.sbatch=--cpus-per-task=2 --time=5"]
    assert sweep(tmp_path, SEEDS, *asked) == 0
    assert [evidence(spec.folder) for spec in specs(tmp_path)] == reference
    assert in_sqlite(tmp_path) == expected(tmp_path, reference)
    assert not list((tmp_path / "slurm").iterdir()), "nothing is left of what they said to each other"


def test_the_store_goes_away_and_comes_back(
    cluster: Slurm, team: Team, reference: list[Evidence], tmp_path: Path
) -> None:
    the_store_goes_away(tmp_path, WORDS, team, reference)


@pytest.mark.faults
def test_a_search_ends_as_in_this_process(cluster: Slurm, tmp_path: Path) -> None:
    a_search(tmp_path, [*WORDS, "sweep.runs_per_job=3", "launcher.sbatch=--time=5"])


@pytest.mark.faults
def test_two_drivers_share_a_sweep(
    cluster: Slurm, reference: list[Evidence], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_drivers(tmp_path, [*WORDS, "sweep.jobs=2"], reference, capsys)


@pytest.mark.faults
def test_the_driver_is_killed_and_the_same_command_takes_what_its_jobs_do(
    cluster: Slurm, reference: list[Evidence], tmp_path: Path
) -> None:
    the_driver_is_killed(tmp_path, WORDS, reference)
    assert [times_trained(spec.folder) for spec in specs(tmp_path)] == [1, 1, 1]


def test_jobs_that_end_are_noticed_and_the_same_command_goes_on(
    cluster: Slurm, reference: list[Evidence], tmp_path: Path
) -> None:
    """Without accounting, too. One is killed; one is told that its time is over before an epoch has ended, and is not
    queued again, for ever; the third notices nothing."""
    runs = list(specs(tmp_path))

    def kill() -> None:
        for step in steps(job(0)):
            for child in step.children():
                child.kill()

    def late() -> None:
        slurm("scancel", "--batch", "--signal=USR2", job(1))

    listener = once({0: kill})
    first = Listener(event=listener.event, start=lambda index: late() if index == 1 else None)
    hung = [{"fault": "epoch.recorded:2:hang"}, {"fault": "epoch.trained:1:hang"}]
    killed, timed_out, other = train(tmp_path, runs, first, *hung)
    assert (killed.status, killed.died, other.status) == ("killed", True, "finished")
    assert killed.reason == "its Slurm job was killed by signal 9"
    assert timed_out.status == "timed out"
    assert "no epoch ended within its Slurm job's time limit" in (timed_out.reason or "")
    assert sweep(tmp_path, SEEDS, *WORDS) == 0
    assert [evidence(spec.folder) for spec in runs] == reference
    assert [attempts(spec.folder) for spec in runs] == [2, 2, 1]


@pytest.mark.faults
def test_a_job_is_queued_again_near_its_time_limit_and_by_the_sweep_when_slurm_ends_the_wrong_attempt(
    cluster: Slurm, reference: list[Evidence], tmp_path: Path
) -> None:
    """SIGUSR2 is what Slurm sends for `--signal=B:USR2@90`; SIGTERM what reached a second attempt on a node that had
    come back, because it had not been there to hear of the end of the first."""
    run, turns = specs(tmp_path)[0], [tmp_path / "first", tmp_path / "second"]

    def near_the_end() -> None:
        number = job()
        slurm("scancel", "--batch", "--signal=USR2", number)
        begin_now(number)
        Thread(target=end_the_second, args=(number,)).start()

    def end_the_second(number: str) -> None:
        wait_until(turns[1].exists, 60)
        slurm("scancel", "--batch", "--signal=TERM", number)

    hang = {"setup": partial(hang_in_turn, {turns[0]: ("epoch.recorded", 2), turns[1]: ("epoch.recorded", 1)})}
    (outcome,) = train(tmp_path, [run], once({0: near_the_end}), hang)
    assert outcome.status == "finished", outcome
    assert evidence(run.folder) == reference[0]
    assert attempts(run.folder) == 3


@pytest.mark.faults
def test_an_interrupted_sweep_cancels_its_jobs_or_leaves_them(
    cluster: Slurm, reference: list[Evidence], tmp_path: Path
) -> None:
    """`launcher.on_exit`; what is left is finished, and nobody waits for it."""
    for on_exit in ("cancel", "leave"):
        run, gate = specs(tmp_path / on_exit)[0], tmp_path / f"{on_exit}.gate"
        wait = {"setup": partial(wait_at, "epoch.recorded", 2, gate, tmp_path / f"{on_exit}.waits")}
        with pytest.raises(KeyboardInterrupt):
            train(
                tmp_path / on_exit, [run], once({0: partial(signal.raise_signal, signal.SIGINT)}), wait, on_exit=on_exit
            )
        there = slurm("squeue", "--noheader", "--array", "--states=running").stdout.splitlines()
        assert len(there) == (on_exit == "leave")
        gate.touch()
    wait_until((run.folder / "result.json").exists, 60)
    assert evidence(run.folder) == reference[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["launcher.sbatch=--partition=nope"],
            r"--partition=nope.*Slurm takes no such job.*Partitions: debug, apart\.",
        ),
        (["launcher.sbatch=--nodes=many"], r"launcher\.sbatch='--nodes=many': Slurm takes no such job"),
        (["seed=range(3000)"], r"makes 3,000 jobs .* takes 1,001 in an array; give sweep\.runs_per_job=3 or more"),
    ],
)
def test_what_slurm_would_refuse_is_said_before_anything_is_made(
    cluster: Slurm, tmp_path: Path, words: list[str], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        sweep(tmp_path / "results", *WORDS, *words)
    assert not (tmp_path / "results").exists()


def test_a_results_folder_that_the_nodes_do_not_share_is_refused(cluster: Slurm, tmp_path: Path) -> None:
    """By a node in a mount namespace of its own, with an empty folder in that place. A sweep that did not wait for the
    answer hears it from each of its jobs."""
    apart, there = tmp_path / "apart", "--partition=apart"
    apart.mkdir()
    cluster.start_node_apart(apart)
    said = (
        rf"launcher=slurm: node apart cannot train: paths\.results_dir is not shared: {apart} is another folder there"
    )
    with pytest.raises(ValueError, match=said):
        sweep(apart / "results", *WORDS, f"launcher.sbatch={there}")
    assert not list(apart.iterdir())
    launcher = SlurmLauncher(1, apart / "slurm", [there], runs_per_job=1, threads=1, leaves=False)
    (outcome,) = launcher.run([task(specs(apart)[0])])
    assert outcome.status == "failed"
    assert f"does node apart share {apart}/slurm/" in (outcome.reason or "")


@pytest.mark.parametrize(("at", "code"), [("cd", 71), ("-r", 72), ("-x", 73)])
def test_a_node_says_what_it_lacks(tmp_path: Path, at: str, code: int) -> None:
    """The script of a job, its folder, its tasks or its Python gone."""
    script = checks(tmp_path)
    assert subprocess.run(["sh"], input=script, text=True).returncode == 0
    (line,) = [line for line in script.splitlines() if f"{at} /" in line]
    gone = line.replace(f"{at} /", f"{at} /gone/")
    assert subprocess.run(["sh"], input=gone, text=True, stderr=subprocess.DEVNULL).returncode == code
    assert code in UNFIT


def test_a_node_says_that_locks_do_not_hold(tmp_path: Path) -> None:
    lock, script = Lock(tmp_path / "token"), lock_check(tmp_path / "token")
    assert lock.acquire()
    assert subprocess.run(["sh"], input=script, text=True).returncode == 0
    lock.release()
    assert subprocess.run(["sh"], input=script, text=True).returncode == 74


@pytest.mark.faults
def test_a_node_that_dies_gives_its_job_to_another_and_its_ghost_writes_nothing_more(
    cluster: Slurm, reference: list[Evidence], tmp_path: Path
) -> None:
    """Slurm's processes on the node die, the run does not; Slurm finds the node down, and starts the job again on the
    other. That attempt takes the run over and ends; then the ghost goes on, and is refused: one result, each metric
    once. The last test of the cluster: it has one node less."""
    run, gate, ghosts = specs(tmp_path)[0], tmp_path / "gate", list[psutil.Process]()
    nodes = list[str]()

    def die() -> None:
        number = job()
        nodes.append(shown(number)["BatchHost"])
        carriers = steps(number)
        ghosts.extend(child for step in carriers for child in step.children(recursive=True))
        cluster.kill_node(nodes[0])
        for one in carriers:
            one.kill()
        Thread(target=begin_now, args=(number,)).start()

    wait = {"setup": partial(wait_at, "epoch.recorded", 2, gate, tmp_path / "waits")}
    try:
        (outcome,) = train(tmp_path, [run], once({0: die}), wait)
        assert outcome.status == "finished", outcome
        before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
        assert any(ghost.is_running() for ghost in ghosts)
    finally:
        gate.touch()
    assert not psutil.wait_procs(ghosts, timeout=60)[1]
    after = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    changed = {path.name for path in before.keys() | after.keys() if before.get(path) != after.get(path)}
    assert changed <= {"output.txt"}
    assert evidence(run.folder) == reference[0]
    assert attempts(run.folder) == 2


def test_jobs_of_an_array_are_told_from_one_line_of_slurms() -> None:
    assert list(members("0-2,7%4")) == [0, 1, 2, 7]
    assert list(members("12")) == [12]
    assert list(members("")) == []

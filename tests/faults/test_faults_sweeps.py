"""Promise: what happens to one run stays there and is told; no run is trained twice; the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from injection import (
    TINY,
    Evidence,
    agenda_of,
    attempt,
    attempts,
    complete,
    evidence,
    stored,
    sweep,
    task,
    use_store,
    work_of,
)
from PIL import Image

from stridelab.sweep.launchers.child import finish
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.sweep.task import Listener, Outcome, Task, cause_of_death
from stridelab.system import points
from stridelab.tracking.journal import JOURNAL, read
from stridelab.tracking.status import read_status, read_tag, status_of

TRAIN = Path(__file__).parents[2] / "train.py"
STATUS = "stridelab.status"
TWO = "model.strides=4-2-2,2-2-4"
LONG = ("trainer.max_epochs=300", "trainer.feature_map_images=0")


@pytest.fixture(scope="module")
def reference(pool: LocalLauncher, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Evidence]:
    """Undisturbed runs by their strides."""
    results = tmp_path_factory.mktemp("reference")
    return {strides: complete(pool, work_of(results, f"model.strides={strides}")) for strides in ("4-2-2", "2-2-4")}


def between(pool: LocalLauncher, results: Path, **what: Any) -> Outcome:
    """A run that something happens to, between two others, which must not notice."""
    works = agenda_of(results, "seed=0,1,2").specs
    before, bad, after = pool.run([task(works[0]), task(works[1], **what), task(works[2])])
    assert (before.status, after.status) == ("finished", "finished")
    return bad


@pytest.mark.parametrize(
    ("action", "status", "said"),
    [
        ("exit", "failed", "exit code 0 before the run was complete"),
        ("exhaust", "out of memory", "can't allocate memory"),
        pytest.param("crash", "failed", "crashed by SIGSEGV", marks=pytest.mark.faults),
        pytest.param("kill", "killed", "killed by SIGKILL", marks=pytest.mark.faults),
    ],
)
def test_what_happens_to_one_run_is_told(
    pool: LocalLauncher, tmp_path: Path, action: str, status: str, said: str
) -> None:
    """Faults 9 and 11: no memory, `os._exit(0)`, a crash of native code."""
    outcome = between(pool, tmp_path, fault=f"step:2:{action}")
    assert outcome.status == status
    assert said in (outcome.reason or "")
    folder = agenda_of(tmp_path, "seed=1").specs[0].folder
    assert not (folder / "result.json").exists()
    if action == "crash":
        assert "Fatal Python error: Segmentation fault" in (folder / "output.txt").read_text()
    if action == "exhaust":
        assert read_tag(folder, STATUS) == "out of memory"
        assert "DefaultCPUAllocator" in (folder / "traceback.txt").read_text()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate"), "out of memory"),
        (FloatingPointError("diverged: the loss"), "diverged"),
        (BlockingIOError(), "busy"),
        (KeyboardInterrupt(), "killed"),
        (ZeroDivisionError(), "failed"),
    ],
)
def test_words_for_errors(error: BaseException, status: str) -> None:
    assert status_of(error) == status


def test_a_kill_for_want_of_memory_is_known_by_the_systems_count() -> None:
    """Fault 10: exit by SIGKILL while the system counted one more out-of-memory kill."""
    assert cause_of_death(-9, killed_for_memory=True).status == "out of memory"
    assert cause_of_death(-9).status == "killed"


def test_runs_that_share_a_process_lose_nothing_by_it(tmp_path: Path, reference: dict[str, Evidence]) -> None:
    """As on a GPU: the third is killed, and loses its process; before and after, others come second, to the same bits
    as alone."""
    works = agenda_of(tmp_path, TWO, "seed=0,1").specs
    first, second, third, fourth = works[1], works[0], works[3], works[2]
    tasks = [
        task(first),
        task(second),
        task(third, fault="step:2:kill"),
        task(replace(third, folder=tmp_path / "third")),
    ]
    launcher = LocalLauncher(1)
    outcomes = launcher.run([replace(one, shares="alike") for one in [*tasks, task(fourth)]])
    launcher.close()
    assert [outcome.status for outcome in outcomes] == ["finished", "finished", "killed", "finished", "finished"]
    assert outcomes[2].reason == "killed by SIGKILL (perhaps by the system, out of memory)"
    pids = [pid_of(work.folder) for work in (first, second, third)]
    assert pids[0] == pids[1] == pids[2] != pid_of(fourth.folder) == pid_of(tmp_path / "third")
    assert evidence(second.folder) == reference["4-2-2"]
    assert evidence(fourth.folder) == reference["2-2-4"]


def test_a_run_without_memory_beside_another_goes_on_alone(
    pool: LocalLauncher, tmp_path: Path, reference: dict[str, Evidence]
) -> None:
    """From its checkpoint, when the other has ended."""
    one, other = agenda_of(tmp_path, TWO).specs
    said = list[str]()
    listener = Listener(event=lambda index, event: said.extend(event[key] for key in event if key == "said"))
    outcomes = pool.run([task(one, fault="step:7:exhaust", once=tmp_path / "struck"), task(other)], listener)
    assert [outcome.status for outcome in outcomes] == ["finished", "finished"]
    assert [line for line in said if "it is tried again, alone, when the others have ended" in line]
    assert "goes on after epoch 1" in said
    assert attempts(one.folder) == 2
    assert (evidence(one.folder), evidence(other.folder)) == (reference["4-2-2"], reference["2-2-4"])


def pid_of(folder: Path) -> int:
    return int(next(one.data["pid"] for one in read(folder / JOURNAL) if "pid" in one.data))


@pytest.mark.faults
def test_the_systems_killer(pool: LocalLauncher, tmp_path: Path) -> None:
    """Fault 10, the real one: a control group of 1.2 GiB, and a run that wants more."""
    group = Path("/sys/fs/cgroup/memory/stridelab-faults")
    try:
        group.mkdir(exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(str(1200 * 2**20))
    except OSError:
        pytest.skip("no control group can be made here")
    child = pool.pool.start(Task(greedy, (group,)))
    outcome = finish(child)
    with suppress(OSError):
        group.rmdir()
    assert outcome.died
    assert outcome.status in ("out of memory", "killed")
    assert "out of memory" in (outcome.reason or "")


def greedy(group: Path, *, progress: Any) -> None:
    (group / "cgroup.procs").write_text(str(os.getpid()))
    kept = [bytearray(b"x") * 2**26 for _ in range(64)]
    assert kept


def test_a_run_that_hangs_is_ended_in_time_and_goes_on_later(
    pool: LocalLauncher,
    tmp_path: Path,
    template: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    reference: dict[str, Evidence],
) -> None:
    """Fault 11: `trainer.timeout_min`. It may be another in the next call: it does not make another run."""
    results = use_store(tmp_path, template)
    work = work_of(results, "trainer.timeout_min=0.05")
    assert work.folder == work_of(results).folder
    (outcome,) = pool.run([Task(task(work).function, (work, "step:7:hang", None, None), timeout_s=4)])
    assert (outcome.status, outcome.died) == ("timed out", True)
    assert complete(pool, work) == reference["4-2-2"]
    assert sweep(results, "seed=0", "model.strides=1-1-1", "trainer.timeout_min=0.01", *LONG) == 1
    assert "timed out after 0.01 min" in capsys.readouterr().out
    (late,) = agenda_of(results, "model.strides=1-1-1", *LONG).to_do
    assert read_tag(late.folder, STATUS) == "timed out"
    (left,) = agenda_of(results, "model.strides=1-1-1", "retry=none", *LONG).skipped
    assert left.status == "timed out"


def test_divergence(
    tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str], reference: dict[str, Evidence]
) -> None:
    """Fault 8: told with its step; nothing poisoned is kept; not tried again, since the bits would be the same; the
    others are trained."""
    results = use_store(tmp_path, template)
    assert sweep(results, "trainer.lr=0.3,1e25") == 1
    good, bad = agenda_of(results, "trainer.lr=0.3,1e25").specs
    assert evidence(good.folder) == reference["4-2-2"]
    said = capsys.readouterr().out
    assert "diverged: the training loss is" in " ".join(said.split())
    assert "at step" in said
    assert (read_status(bad.folder)[0], read_tag(bad.folder, STATUS)) == ("FAILED", "diverged")
    assert not list((bad.folder / "checkpoints").glob("*"))
    before = attempts(bad.folder)
    assert sweep(results, "trainer.lr=0.3,1e25") == 1
    assert "diverged in an earlier call" in " ".join(capsys.readouterr().out.split())
    assert attempts(bad.folder) == before


def test_an_impossible_variant_is_refused_and_the_rest_is_trained(
    tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 7: with its reason, in the store too, and in the exit code."""
    results = use_store(tmp_path, template)
    overrides = ("model.strides=4-2-2,9-9-9", "model.padding=valid")
    assert sweep(results, *overrides) == 1
    assert "refused: layer" in capsys.readouterr().out
    agenda = agenda_of(results, *overrides)
    ((refused, _),) = agenda.refused
    assert read_tag(refused.folder, STATUS) == "refused"
    assert [work.identity.name for work in agenda.done] == ["4-2-2 s0"]


def test_fail_fast(tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = use_store(tmp_path, template)
    overrides = ("trainer.lr=1e25,0.3,0.2,0.1", "sweep.jobs=1")
    assert sweep(results, *overrides, "sweep.fail_fast=true") == 1
    assert "not started" in capsys.readouterr().out
    assert len(agenda_of(results, *overrides).to_do) == 3


def test_a_grid_that_grows_shrinks_and_turns(
    tmp_path: Path, template: Path, reference: dict[str, Evidence], capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 24: only what is new is trained; nothing that was done is touched."""
    results = use_store(tmp_path, template)
    assert sweep(results, "model.strides=4-2-2") == 0
    (old,) = agenda_of(results, "model.strides=4-2-2").specs
    marks = {path: path.stat().st_mtime_ns for path in old.folder.rglob("*ckpt")}
    assert sweep(results, "model.strides=2-2-4,4-2-2") == 0  # one more, in front
    works = agenda_of(results, "model.strides=2-2-4,4-2-2").specs
    assert [attempts(work.folder) for work in works] == [1, 1]
    assert {work.identity.variant.partition("=")[2]: evidence(work.folder) for work in works} == reference
    assert marks == {path: path.stat().st_mtime_ns for path in old.folder.rglob("*ckpt")}
    assert sweep(results, "model.strides=4-2-2,2-2-4", "seed=0,1") == 0  # turned, and another seed
    works = agenda_of(results, "model.strides=4-2-2,2-2-4", "seed=0,1").specs
    assert [attempts(work.folder) for work in works] == [1, 1, 1, 1]
    capsys.readouterr()
    assert sweep(results, "model.strides=2-2-4") == 0  # fewer
    assert "started" not in capsys.readouterr().out
    expected = {work.identity.signature: dict(evidence(work.folder).points) for work in works}
    assert stored(results, [work.folder for work in works]) == expected


def test_a_preview_creates_nothing_and_knows_what_is_left(
    pool: LocalLauncher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    assert sweep(results, TWO, "sweep.preview=true") == 0
    assert "2 to train, about" in capsys.readouterr().out
    assert not results.exists()
    one, other = agenda_of(results, TWO).specs
    attempt(pool, other, fault="checkpoint.saved:2:kill")
    complete(pool, one)
    before = sorted(results.rglob("*"))
    assert sweep(results, TWO, "seed=0,1", "sweep.preview=true", "plan=off") == 0
    said = [line.split("  ") for line in capsys.readouterr().out.splitlines()]
    assert [line[1] for line in said if line[0] == "" and len(line) > 1] == [
        "done", "to do", "to continue, epoch 2 of 3 done", "to do",
    ]  # fmt: skip
    assert sorted(results.rglob("*")) == before


MANY = (TWO, "model.strides=2-2-4,1-2-4", TWO, "model.strides=1-2-4")


@pytest.mark.parametrize("grids", [(TWO, TWO), pytest.param(MANY, marks=pytest.mark.faults)])
def test_sweeps_at_once_on_one_store(
    pool: LocalLauncher, tmp_path: Path, template: Path, reference: dict[str, Evidence], grids: tuple[str, ...]
) -> None:
    """Fault 19: each run is trained once, by one of them; all exit with 0."""
    results = use_store(tmp_path, template)
    crowd = [
        pool.pool.context.Process(target=conduct_one, args=(results, number, grid)) for number, grid in enumerate(grids)
    ]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(240)
    logs = [(results / f"said-{number}.txt").read_text() for number in range(len(grids))]
    assert [process.exitcode for process in crowd] == [0] * len(grids), "\n".join(logs)
    works = {work.folder: work for grid in grids for work in agenda_of(results, grid).specs}
    assert [attempts(folder) for folder in works] == [1] * len(works)
    for work in works.values():
        strides = "-".join(str(stride[0]) for stride in work.config.model.strides)
        if strides in reference:
            assert evidence(work.folder) == reference[strides]
    expected = {work.identity.signature: dict(evidence(work.folder).points) for work in works.values()}
    assert stored(results, list(works)) == expected


def conduct_one(results: Path, number: int, grid: str) -> None:
    said = (results / f"said-{number}.txt").open("w")
    os.dup2(said.fileno(), 1)
    os.dup2(said.fileno(), 2)
    sys.exit(sweep(results, grid, "sweep.jobs=1"))


@pytest.mark.parametrize("how", ["sweep.jobs=1", "sweep.jobs=2", "launcher=in_process"])
def test_however_it_is_run_the_bits_are_the_same(
    tmp_path: Path, template: Path, reference: dict[str, Evidence], how: str
) -> None:
    """Fault 27: one after the other, at once, and in this process."""
    results = use_store(tmp_path, template)
    assert sweep(results, TWO, how) == 0
    for work in agenda_of(results, TWO).specs:
        assert evidence(work.folder) == reference[work.identity.variant.partition("=")[2]]


@pytest.mark.faults
def test_the_process_that_starts_runs_is_killed(
    pool: LocalLauncher, tmp_path: Path, reference: dict[str, Evidence]
) -> None:
    """Fault 22, in our terms (there is no Ray here): the warm process dies; its runs die with it and go on later."""
    work = work_of(tmp_path)
    child = pool.pool.start(task(work, fault="step:7:hang"))
    wait_for(work.folder, "checkpoints/*.ckpt")
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
    outcome = finish(child)
    assert (outcome.status, outcome.died) == ("killed", True)
    assert complete(pool, work) == reference["4-2-2"]


# The real command, in a process group of its own.


def start(folder: Path, *overrides: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(TRAIN), "-m", *TINY, "sweep.name=test", f"paths.results_dir={folder}", *overrides]
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=heed_signals,
    )  # fmt: skip


def heed_signals() -> None:
    """Also where the tests run in the background or under nohup, whose children would ignore them."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 600
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"no {pattern}"
        time.sleep(0.05)


def processes_of(session: int) -> list[int]:
    """All living processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(path.parent.name))
    return found


def nobody_is_left(session: int) -> None:
    deadline = time.monotonic() + 60
    while left := processes_of(session):
        assert time.monotonic() < deadline, f"{len(left)} processes go on"
        time.sleep(0.05)


def folder_of_images(root: Path) -> tuple[str, ...]:
    """400 of noise, in two classes, and the keys with which they are trained on."""
    chance = np.random.default_rng(0)
    for number in range(400):
        path = root / ("ant", "bee")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 256, (28, 28), np.uint8)).save(path)
    keys = ("data=image_folder", f"data.root={root}", f"data.cache_dir={root.parent / 'cache'}", "data.size=28")
    return (*keys, "data.train_size=200", "data.val_size=60")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("whom", "images"), [("the sweep", "embedded"), ("all of them", "embedded"), ("all of them", "folder")]
)
def test_the_sweep_is_killed(tmp_path: Path, template: Path, whom: str, images: str) -> None:
    """Faults 4 and 5: nobody trains on; the same command goes on, with the same runs in MLflow, and ends with the
    bits of an undisturbed sweep."""
    results = use_store(tmp_path, template)
    more = ("trainer.max_epochs=40", "trainer.feature_map_images=0", "seed=0,1")
    if images == "folder":
        more += folder_of_images(tmp_path / "images")
    with start(results, *more) as process:
        wait_for(results, "runs/*/checkpoints/*.ckpt")
        if whom == "the sweep":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    nobody_is_left(process.pid)
    works = agenda_of(results, *more).specs
    assert any(work.folder.exists() for work in works)
    assert sweep(results, *more) == 0
    undisturbed = tmp_path / "undisturbed"
    assert sweep(use_store(undisturbed, template), *more) == 0
    twins = agenda_of(undisturbed, *more).specs
    for work, twin in zip(works, twins, strict=True):
        assert (
            json.loads((work.folder / "result.json").read_text())["weights_digest"]
            == (json.loads((twin.folder / "result.json").read_text())["weights_digest"])
        )
    stored(results, [work.folder for work in works])


@pytest.mark.faults
@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 2), (signal.SIGHUP, 1)])
def test_an_interruption(tmp_path: Path, template: Path, number: int, times: int) -> None:
    """Fault 6: Ctrl-C once and twice, a closed terminal (Ctrl-C once and SIGTERM: test_train.py)."""
    results = use_store(tmp_path, template)
    with start(results, *LONG, "seed=0,1") as process:
        wait_for(results, "runs/*/checkpoints/*.ckpt")
        for _ in range(times):
            os.killpg(process.pid, number)
            time.sleep(0.3)
        out, _ = process.communicate()
    assert process.returncode == 128 + number, out
    assert "The same command continues" in out
    assert "train.py -m" in out
    nobody_is_left(process.pid)
    statuses = [
        read_status(work.folder) for work in agenda_of(results, *LONG, "seed=0,1").specs if work.folder.exists()
    ]
    assert set(statuses) == {("KILLED", "interrupted")}


@pytest.mark.faults
def test_threads_and_cores_of_the_machine_do_not_count(tmp_path: Path, reference: dict[str, Evidence]) -> None:
    """Fault 27: on one core, with other defaults of OpenMP, and with memory that is not zero."""
    first = sorted(os.sched_getaffinity(0))[0]
    command = [sys.executable, str(TRAIN), *TINY, f"paths.results_dir={tmp_path}"]
    done = subprocess.run(
        ["taskset", "-c", str(first), *command], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "8", "MALLOC_PERTURB_": "165", "PYTHONHASHSEED": "5"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert evidence(work_of(tmp_path).folder) == reference["4-2-2"]


@pytest.mark.faults
def test_too_few_open_files(tmp_path: Path) -> None:
    """Fault 25: said before anything is created."""
    command = ["prlimit", "--nofile=64", sys.executable, str(TRAIN), *TINY]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "lets a process open 64 files" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "<script>alert(1)</script>", "-rf", "a" * 101])
def test_hostile_names(tmp_path: Path, name: str) -> None:
    """Fault 28: a name becomes a folder only when it is plain."""
    with pytest.raises(ValueError, match=r"sweep\.name=.* must be letters"):
        sweep(tmp_path / "results", f"sweep.name='{name}'")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["model._target_=builtins.open", "+model._target_=os.system", "trainer._target_=x"])
def test_a_configuration_cannot_name_code(tmp_path: Path, key: str) -> None:
    """Fault 28: there is no key that is called."""
    with pytest.raises(ValueError, match="_target_"):
        sweep(tmp_path / "results", key)


def test_no_environment_variable_strikes_a_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pool: LocalLauncher
) -> None:
    """What happens at a point is registered in the process itself; the name that once did it does nothing."""
    monkeypatch.setenv("STRIDELAB_FAULT", "step:1:kill")
    assert points.hooks == {}
    assert attempt(pool, work_of(tmp_path)).status == "finished"


def test_a_point_calls_what_is_registered_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    came_by: list[str] = []
    monkeypatch.setitem(points.hooks, "step", lambda: came_by.append("step"))
    for name in ("step", "run.opened", "step"):
        points.point(name)
    assert came_by == ["step", "step"]

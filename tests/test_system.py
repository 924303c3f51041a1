"""What differs between systems: locks, files, and a sweep where a system's own names are missing."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stridelab.system.files import replacement, write_json_atomic
from stridelab.system.locks import Lock, holder, is_locked, locked
from stridelab.system.processes import usable_cores
from stridelab.tracking.status import read_status

ROOT = Path(__file__).parents[1]
TINY = (
    "model.channels=[4,4,8]", "model.strides=4-2-2", "data.train_size=300", "data.val_size=100",
    "trainer.max_epochs=3", "trainer.feature_map_images=1", "sweep.jobs=1",
)  # fmt: skip


def test_a_lock_has_one_holder_who_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_locked(path)
    first, second = Lock(path), Lock(path)
    assert first.acquire()
    assert not second.acquire()
    assert is_locked(path)
    assert re.fullmatch(rf"process {os.getpid()} on \S+, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d", holder(path))
    first.release()
    first.release()
    assert not is_locked(path)
    assert second.acquire()
    second.release()


@pytest.mark.parametrize("hidden", ["", "import sys; sys.modules['fcntl'] = None; "])
def test_a_lock_ends_with_its_process(tmp_path: Path, hidden: str) -> None:
    """However that ends, and also where there are no native locks."""
    path = tmp_path / "lock"
    begin = f"{hidden}from pathlib import Path; from stridelab.system.locks import *; path = Path({str(path)!r}); "
    code = begin + "lock = Lock(path); assert lock.acquire(); print('held', flush=True); input()"
    ask = [sys.executable, "-c", begin + "print(is_locked(path), end='')"]
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert subprocess.check_output(ask) == b"True"
        assert holder(path).startswith(f"process {child.pid} on ")
        child.kill()
    assert subprocess.check_output(ask) == b"False"


def test_who_waits_is_told_for_whom(tmp_path: Path) -> None:
    path, told = tmp_path / "lock", list[str]()
    first = Lock(path)
    assert first.acquire()

    def waits(name: str) -> None:
        told.append(name)
        first.release()

    with locked(path, waits=waits):
        assert is_locked(path)
    assert len(told) == 1
    assert str(os.getpid()) in told[0]


@pytest.mark.parametrize("native", [True, False])
def test_a_later_attempt_of_a_job_takes_the_lock_of_its_ghost_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, native: bool
) -> None:
    """Slurm starts a job anew whose node seems dead. Nobody else can: not another job, not the same attempt again."""
    if not native:  # as on Lustre, mounted without flock

        def refuse(file: int, **how: bool) -> bool:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr("filelock.lock_descriptor", refuse)
    path = tmp_path / "lock"
    alone, ghost, successor = Lock(path), Lock(path), Lock(path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert ghost.acquire()
    assert not successor.acquire()
    for job in ("8", ""):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        assert not alone.acquire()
    ghost.confirm()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert successor.acquire()
    assert "of job 7" in holder(path)
    successor.confirm()
    with pytest.raises(BlockingIOError, match=rf"process {os.getpid()} on .* of job 7, since .*, has taken this over"):
        ghost.confirm()
    ghost.release()
    assert is_locked(path)
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    assert not ghost.acquire(), "an earlier attempt never takes it back"
    successor.release()
    assert not is_locked(path)


def test_a_replacement_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json_atomic(path, 1)
    with pytest.raises(ZeroDivisionError), replacement(path) as new:
        new.write_text(f"half {1 // 0}")
    with pytest.raises(TypeError):
        write_json_atomic(path, object())
    assert [(one.name, one.read_text()) for one in tmp_path.iterdir()] == [("a.json", "1\n")]


def test_cores_are_at_least_one() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


HIDING = """
import ctypes, multiprocessing, os, pathlib, signal, sys
import psutil  # which has its own way on every system
del os.sched_getaffinity, signal.SIGHUP, os.O_DIRECTORY
if hasattr(os, "process_cpu_count"):  # from Python 3.13 on; without affinity the two are one
    os.process_cpu_count = os.cpu_count
sys.modules["fcntl"] = sys.modules["resource"] = None
multiprocessing.get_all_start_methods = lambda: ["spawn"]
class NoLibrary:
    def __init__(self, *names, **named): raise OSError("hidden")
real_library = ctypes.CDLL
def library(name, *rest, **named):
    asking = sys._getframe(1).f_globals.get("__name__", "")  # filelock has its own way on every system, too
    hides = name is None and not asking.startswith("filelock")
    return NoLibrary() if hides else real_library(name, *rest, **named)
ctypes.CDLL = library
for method in ("read_text", "write_text", "open"):
    def hidden(path, *rest, real=getattr(pathlib.Path, method), **named):
        if str(path).startswith("/proc"):
            raise FileNotFoundError(2, "hidden", str(path))
        return real(path, *rest, **named)
    setattr(pathlib.Path, method, hidden)
"""


def test_a_sweep_a_kill_and_a_report_where_a_systems_names_are_missing(tmp_path: Path) -> None:
    """As on a Mac and on Windows: no affinity, flock, resource, prctl, mallopt, /proc, SIGHUP or forkserver."""
    (tmp_path / "sitecustomize.py").write_text(HIDING)
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    results = tmp_path / "results"
    command = [sys.executable, str(ROOT / "train.py"), "-m", *TINY, f"paths.results_dir={results}"]
    more = [*command, "trainer.max_epochs=60"]
    with subprocess.Popen(more, cwd=tmp_path, env=environment, stdout=-1, stderr=-2) as sweep:
        while not list(results.glob("runs/*/checkpoints/*2.ckpt")):
            assert sweep.poll() is None, sweep.communicate()[0].decode()
            time.sleep(0.1)
        children = psutil.Process(sweep.pid).children(recursive=True)
        sweep.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, "a run goes with the sweep that began it"
    done = subprocess.run(more, cwd=tmp_path, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "goes on after epoch" in done.stdout
    assert [read_status(path.parent)[0] for path in results.glob("runs/*/result.json")] == ["FINISHED"]
    assert len(list(results.glob("reports/*/comparison.html"))) == 1

"""Promise: kill a run anywhere, start it again, and it ends with the bits of one that was never disturbed."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from injection import (
    STEPS_AN_EPOCH,
    Evidence,
    attempt,
    attempts,
    complete,
    evidence,
    stored,
    task,
    use_store,
    work_of,
)

from stridelab.sweep.launchers.child import finish
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.system.files import PARTIAL
from stridelab.tracking.journal import JOURNAL, Journal
from stridelab.tracking.status import read_status, read_tag, repair

NIGHTLY = os.environ.get("STRIDELAB_FAULTS") == "nightly"


@pytest.fixture(scope="session")
def reference(pool: LocalLauncher, tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """A run that nothing happened to."""
    return complete(pool, work_of(tmp_path_factory.mktemp("reference")))


def test_what_is_compared_would_show_a_difference(pool: LocalLauncher, tmp_path: Path, reference: Evidence) -> None:
    other = complete(pool, work_of(tmp_path, "seed=1"))
    assert other.digests["weights_digest"] != reference.digests["weights_digest"]
    assert other.points != reference.points
    assert other.maps != reference.maps
    assert {("train/loss", epoch) for epoch in (1, 2, 3)} <= set(reference.points)


OFTEN = [
    f"step:{STEPS_AN_EPOCH + 2}",
    f"step:{STEPS_AN_EPOCH}",
    "checkpoint.written:2",
    "checkpoint.renamed:2",
    "epoch.recorded:2",
    "result.begun:1",
]
SELDOM = [
    "run.opened:1",
    "step:1",
    f"step:{STEPS_AN_EPOCH + 1}",
    f"step:{3 * STEPS_AN_EPOCH}",
    "validation.begun:1",
    "validation.begun:3",
    "epoch.trained:1",
    "epoch.trained:3",
    "epoch.recorded:3",
    "checkpoint.begun:1",
    "checkpoint.opened:1",
    "checkpoint.opened:3",
    "checkpoint.written:1",
    "checkpoint.saved:1",
    "checkpoint.saved:3",
    "fit.ended:1",
    "result.written:1",
    "run.closed:1",
]


@pytest.mark.parametrize("where", OFTEN + [pytest.param(where, marks=pytest.mark.faults) for where in SELDOM])
def test_killed_at_a_point_and_started_again(
    pool: LocalLauncher, tmp_path: Path, reference: Evidence, where: str
) -> None:
    """Faults 1 to 3: SIGKILL at steps, around checkpoints, in validation, before and after the end mark."""
    work = work_of(tmp_path)
    outcome = attempt(pool, work, fault=f"{where}:kill")
    assert (outcome.status, outcome.died) == ("killed", True)
    assert complete(pool, work) == reference


def test_killed_many_times_in_one_run(pool: LocalLauncher, tmp_path: Path, template: Path, reference: Evidence) -> None:
    """Fault 1, a chain; and what MLflow holds at the end is what the journal holds, once."""
    results = use_store(tmp_path, template)
    work = work_of(results)
    for where in (
        "step:3",
        "epoch.recorded:1",
        "checkpoint.renamed:1",
        "step:2",
        "checkpoint.written:1",
        "fit.ended:1",
    ):
        assert attempt(pool, work, fault=f"{where}:kill").status == "killed", where
    assert complete(pool, work) == reference
    assert stored(results, [work.folder]) == {work.identity.signature: dict(reference.points)}


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(20 if NIGHTLY else 3))
def test_killed_at_random_until_done(pool: LocalLauncher, tmp_path: Path, reference: Evidence, seed: int) -> None:
    """Fault 1: whenever."""
    work, chance = work_of(tmp_path), random.Random(seed)
    for _ in range(4):
        child = pool.pool.start(task(work))
        time.sleep(chance.uniform(0, 1.2))
        assert child.process.pid is not None
        with suppress(ProcessLookupError):  # it was quicker
            os.kill(child.process.pid, signal.SIGKILL)
        finish(child)
    assert complete(pool, work) == reference


def test_the_older_checkpoint_stays_until_the_newer_is_whole(pool: LocalLauncher, tmp_path: Path) -> None:
    """Fault 2: at no point is there less than one sound checkpoint."""
    work = work_of(tmp_path)
    attempt(pool, work, fault="checkpoint.written:3:kill")
    partial, *names = sorted(path.name for path in (work.folder / "checkpoints").iterdir())
    assert names == ["epoch-0001.ckpt", "epoch-0002.ckpt"]
    assert partial.startswith(".epoch-0003.ckpt.")
    assert partial.endswith(PARTIAL)


@pytest.mark.parametrize("cut", [1, 40, pytest.param(0, marks=pytest.mark.faults)])
def test_a_journal_that_was_torn(pool: LocalLauncher, tmp_path: Path, reference: Evidence, cut: int) -> None:
    """Fault 26: the machine stops in the middle of a record (0: the whole of it). What the checkpoint knows is
    recorded again, so not even an epoch's metrics are missing. (Every byte: test_tracking_journal.py.)"""
    work = work_of(tmp_path)
    attempt(pool, work, fault="checkpoint.saved:2:kill")
    journal = work.folder / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    of_epoch_2 = next(i for i, line in enumerate(lines) if b'"train/loss"' in line and b'"step":2' in line)
    journal.write_bytes(b"".join(lines[:of_epoch_2]) + lines[of_epoch_2][: cut and -cut])
    assert complete(pool, work) == reference


def test_a_lock_is_held_by_a_process_and_not_by_a_file(
    pool: LocalLauncher, tmp_path: Path, reference: Evidence
) -> None:
    """Fault 20: the pid that a journal names may long be another's; the kernel knows whether anybody writes."""
    work = work_of(tmp_path)
    work.folder.mkdir(parents=True)
    journal = Journal(work.folder / JOURNAL)
    journal.append("status", {"status": "RUNNING", "reason": "", "uid": "0" * 32, "parent": None, "pid": os.getppid()})
    journal.close()
    assert repair(tmp_path) == [work.folder]
    assert read_status(work.folder)[0] == "KILLED"
    assert complete(pool, work) == reference


def test_a_run_that_is_being_trained_is_not_trained_twice(
    pool: LocalLauncher, tmp_path: Path, reference: Evidence
) -> None:
    """Fault 19, within one pool: the second waits its turn and takes what the first has made."""
    work = work_of(tmp_path)
    first, second = pool.run([task(work), task(work)])
    assert first.value.weights_digest == second.value.weights_digest == reference.digests["weights_digest"]
    assert evidence(work.folder) == reference
    assert attempts(work.folder) <= 2  # the second may open a finished run, and finds its result


def jump_back() -> None:
    """The clock of this process is ten days late, then in 1970."""
    real, began = time.time_ns, time.monotonic()

    def late() -> int:
        return real() - 864_000 * 10**9 if time.monotonic() - began < 0.5 else 0

    time.time_ns = late


def test_the_clock_does_not_decide_which_checkpoint_is_newest(
    pool: LocalLauncher, tmp_path: Path, reference: Evidence
) -> None:
    """Fault 21: clocks jump and dates of files lie; epochs count, and no record goes back in time."""
    work = work_of(tmp_path)
    attempt(pool, work, fault="checkpoint.saved:2:kill", setup=jump_back)
    os.utime(work.folder / "checkpoints" / "epoch-0002.ckpt", (0, 0))
    assert complete(pool, work) == reference
    assert read_tag(work.folder, "stridelab.continued_from") == f"epoch 2 of {work.folder.name}"

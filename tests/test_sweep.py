"""Sweeps: isolation of runs, what is done again and what is not, and how each end is told."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stridelab.config import expand, load
from stridelab.config.variants import science
from stridelab.plan import examine
from stridelab.run import RunSpec
from stridelab.sweep.agenda import choose_folder
from stridelab.sweep.external_runs import ExternalRuns
from stridelab.sweep.launchers import launcher_for
from stridelab.sweep.launchers.in_process import InProcessLauncher
from stridelab.sweep.launchers.local import LocalLauncher, jobs_at_once
from stridelab.sweep.launchers.pool import Pool
from stridelab.sweep.precision import slower_in_bf16
from stridelab.sweep.progress import Board
from stridelab.sweep.runs import settle
from stridelab.sweep.task import WAIT, Listener, Outcome, Task
from stridelab.text import duration
from stridelab.tracking import status
from stridelab.tracking.journal import JOURNAL, Journal
from stridelab.tracking.run import RunIdentity
from tracking_stores import leave_result

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def double(number: int, *, progress: Any) -> int:
    progress({"step": number})
    print("said by", number)
    return 2 * number


def misbehave(how: str, *, progress: Any) -> None:
    match how:
        case "raise":
            raise ZeroDivisionError("division by zero")
        case "refuse":
            raise ValueError("model.strides=0 must be 1")
        case "exit":
            sys.exit(7)
        case "vanish":
            os._exit(0)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)


def sleep(seconds: float, *, progress: Any) -> int:
    progress({"pid": os.getpid()})
    time.sleep(seconds)
    return os.getpid()


def test_values_come_back_in_order_with_their_events_and_their_output_in_a_file(
    pool: LocalLauncher, tmp_path: Path
) -> None:
    heard: list[tuple[int, Mapping[str, Any]]] = []
    tasks = [Task(double, (number,), log=tmp_path / f"{number}.txt") for number in range(5)]
    outcomes = pool.run(tasks, Listener(event=lambda index, event: heard.append((index, event))))
    assert outcomes == [Outcome(value=2 * number) for number in range(5)]
    assert sorted(heard, key=lambda pair: pair[0]) == [(number, {"step": number}) for number in range(5)]
    assert (tmp_path / "3.txt").read_text() == "said by 3\n"


@pytest.mark.parametrize(
    ("how", "reason", "died"),
    [
        ("raise", "ZeroDivisionError: division by zero", False),
        ("refuse", "model.strides=0 must be 1", False),
        ("exit", "the process ended with exit code 7 before the run was complete", True),
        ("vanish", "the process ended with exit code 0 before the run was complete", True),
        ("die", "killed by SIGKILL (perhaps by the system, out of memory)", True),
    ],
)
def test_what_happens_to_one_run_stays_there(pool: LocalLauncher, how: str, reason: str, died: bool) -> None:
    tasks = [Task(double, (1,)), Task(misbehave, (how,)), Task(double, (2,))]
    before, bad, after = pool.run(tasks)
    assert (before.value, after.value) == (2, 4)
    assert (bad.reason, bad.died) == (reason, died)


@pytest.mark.parametrize("moment", ["before a child starts", "when it has started", "when it has ended"])
def test_an_interruption_at_any_moment_is_no_other_error_and_ends_all_children(
    pool: LocalLauncher, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The queue and the engine count apart: in between, one of them knows of a child that the other does not."""
    started = list[Any]()

    def start(processes: Pool, task: Task, start: Any = Pool.start) -> Any:
        if started and moment == "before a child starts":
            raise KeyboardInterrupt
        started.append(start(processes, task))
        if len(started) == 2 and moment == "when it has started":
            raise KeyboardInterrupt
        return started[-1]

    def finish(child: Any) -> Outcome:
        raise KeyboardInterrupt

    monkeypatch.setattr(Pool, "start", start)
    if moment == "when it has ended":
        monkeypatch.setattr(sys.modules[Pool.__module__], "finish", finish)
    with pytest.raises(KeyboardInterrupt):
        pool.run([Task(sleep, (60,)), Task(sleep, (0 if moment == "when it has ended" else 60,))])
    assert not started[0].process.is_alive()
    started[-1].process.kill()


def test_ctrl_c_while_the_warm_process_imports_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "struck.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    program = (
        "from stridelab.system.processes import process_context, warm_up\n"
        "context = process_context(['struck'])\n"
        "warm_up(context)\n"
        "child = context.Process(target=print, args=('trained',))\n"
        "child.start(), child.join()\n"
    )
    settings = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=settings, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("trained\n", "")


def test_no_more_run_at_once_than_allowed(pool: LocalLauncher) -> None:
    running: set[int] = set()
    most = 0

    def start(index: int) -> None:
        nonlocal most
        running.add(index)
        most = max(most, len(running))

    def end(index: int, outcome: Outcome) -> None:
        running.discard(index)

    pool.run([Task(sleep, (0.1,)) for _ in range(5)], Listener(start=start, end=end))
    assert most == 2


def test_each_run_has_a_process_of_its_own(pool: LocalLauncher) -> None:
    outcomes = pool.run([Task(sleep, (0.0,)) for _ in range(4)])
    assert len({outcome.value for outcome in outcomes}) == 4


def test_an_interruption_ends_the_children(pool: LocalLauncher) -> None:
    pids: list[int] = []

    def interrupt(index: int, event: Mapping[str, Any]) -> None:
        pids.append(event["pid"])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pool.run([Task(sleep, (3600,)), Task(sleep, (3600,))], Listener(event=interrupt))
    assert not alive(pids[0])


def test_a_process_that_dies_while_its_run_is_settled_does_not_leave_it_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It held the journal at the first look, and is gone at the second."""
    spec = RunSpec(load([]), RunIdentity("0" * 16, "a"), tmp_path / "a", {})
    journal = Journal(ensured(spec.folder) / JOURNAL)
    journal.append("status", {"status": "RUNNING", "reason": ""})
    looked = list[bool]()

    def dying(folder: Path, **how: Any) -> bool:
        looked.append(status.settle(folder, **how))
        journal.close()
        return looked[-1]

    monkeypatch.setattr("stridelab.sweep.runs.settle_run", dying)
    settle(spec, Outcome(reason="interrupted", status="killed"), until=time.monotonic() + 600)
    assert looked == [False, True]
    assert status.read_status(spec.folder) == ("KILLED", "interrupted")


def ensured(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    return "State:\tZ" not in state


def test_a_finished_run_is_kept_and_a_forced_one_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    first = choose_folder(tmp_path, "abc", force=False)
    assert first == tmp_path / "abc"
    first.mkdir()
    assert choose_folder(tmp_path, "abc", force=True) == first  # unfinished: continued
    leave_result(first)
    assert choose_folder(tmp_path, "abc", force=False) == first
    second = choose_folder(tmp_path, "abc", force=True)
    assert second == tmp_path / "abc.2"
    second.mkdir()
    leave_result(second)
    assert choose_folder(tmp_path, "abc", force=True) == tmp_path / "abc.3"


@pytest.mark.parametrize(
    ("override", "runs", "jobs"),
    [
        ("trainer.threads=1", 8, 4),
        ("trainer.threads=2", 8, 2),
        ("trainer.threads=9", 8, 1),
        ("trainer.threads=1", 3, 3),
        ("sweep.jobs=7", 8, 7),
        ("trainer=gpu", 8, 1),
    ],
)
def test_as_many_runs_at_once_as_the_cores_allow(override: str, runs: int, jobs: int) -> None:
    (job,) = expand([override])
    assert job.config is not None
    assert jobs_at_once(job.config, runs=runs, cores=4) == jobs


def test_the_board_says_which_run_of_how_many_and_escapes_what_it_shows() -> None:
    console = Console(file=io.StringIO(), width=120)
    with Board(["a [b]", "c"], epochs=[2, 2], console=console) as board:
        board.started(0)
        board.event(0, {"epoch": 1, "epochs": 2, "step": 5, "steps": 10, "final/val_acc": 0.5})
        board.finished(0, "test acc 0.9")
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "run 1 of 2  a [b]  started" in printed
    assert "run 1 of 2  a [b]  test acc 0.9" in printed


def test_on_a_terminal_the_board_says_how_much_is_left_and_how_fast_it_goes() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with Board(["a", "b"], epochs=[2, 2], images=[1000, 1000], console=console) as board:
        board.started(0)
        board.event(0, {"epoch": 2, "epochs": 2, "step": 5, "steps": 10})
        said = board.progress.tasks[0].fields["said"]
        assert re.fullmatch(r"0 of 2 runs done, about .* left, [\d,]+ images/s", said)


def test_the_board_s_speed_is_of_what_was_trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """One run goes on after epoch 8 of 10, and another ends after the first of its 10: 2 epochs in 2 s."""
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with Board(["a", "b", "c"], epochs=[10, 10, 2], images=[1000] * 3, console=console) as board:
        for index, epoch in ((0, 9), (1, 1)):
            board.started(index)
            board.event(index, {"epoch": epoch, "epochs": 10, "step": 10, "steps": 10})
        monkeypatch.setattr("stridelab.sweep.progress.monotonic", lambda: board.start + 2)
        board.finished(1, "")
        # 1 of a's 2 epochs and b are done with, a's other epoch and c's 2 are not
        assert board.progress.tasks[0].fields["said"] == "1 of 3 runs done, about 1 s left, 1,000 images/s"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")])
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("retry=sometimes", r"retry='sometimes' must be one of failed, none"),
        ("reuse=all", r"reuse='all' must be one of same-code, any, none"),
        ("trainer.timeout_min=0", r"trainer\.timeout_min=0\.0 must be greater than 0, or null"),
    ],
)
def test_keys_that_are_refused(override: str, said: str) -> None:
    (job,) = expand([override])
    assert re.search(said, job.error or ""), job.error


def test_more_time_does_not_make_another_run() -> None:
    (short, long) = (expand([f"trainer.timeout_min={minutes}"]) for minutes in (1, 2))
    assert [science(job.config) for job in short if job.config] == [science(job.config) for job in long if job.config]


def test_what_waits_for_another_process_is_tried_again_and_held_up_by_nobody(pool: LocalLauncher) -> None:
    looks: list[int] = []

    def look(index: int) -> Outcome | None:
        looks.append(index)
        return WAIT if index == 0 and looks.count(0) < 4 else None

    ended: list[int] = []
    listener = Listener(look=look, end=lambda index, outcome: ended.append(index))
    outcomes = pool.run([Task(double, (number,)) for number in range(4)], listener)
    assert [outcome.value for outcome in outcomes] == [0, 2, 4, 6]
    assert looks.count(0) == 4
    assert sorted(ended) == [0, 1, 2, 3]


def test_what_is_known_already_is_taken_and_not_started(pool: LocalLauncher) -> None:
    known = Outcome(value=7)
    started: list[int] = []
    listener = Listener(look=lambda index: known if index == 1 else None, start=started.append)
    assert [o.value for o in pool.run([Task(double, (n,)) for n in range(3)], listener)] == [0, 7, 4]
    assert started == [0, 2]


def test_a_task_that_takes_too_long_is_ended(pool: LocalLauncher) -> None:
    late, other = pool.run([Task(sleep, (3600,), timeout_s=0.5), Task(double, (1,))])
    assert (late.status, late.died, late.reason) == ("timed out", True, "timed out after 0.00833 min")
    assert other.value == 2


def test_the_first_failure_can_end_all(pool: LocalLauncher) -> None:
    tasks = [Task(misbehave, ("raise",)), Task(sleep, (60,)), Task(double, (1,))]
    bad, ended, never = pool.run(tasks, Listener(stop=lambda outcome: outcome.status != "finished"))
    assert (bad.status, ended.status, never.status) == ("failed", "killed", "not started")
    assert "run 1 did not finish" in (ended.reason or "")


@pytest.mark.parametrize("kind", ["local", "in_process"])
def test_a_refusal_is_one_sentence_and_an_error_of_ours_has_its_traceback(
    kind: str, pool: LocalLauncher, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    launcher = pool if kind == "local" else InProcessLauncher()
    tasks = [Task(misbehave, (how,), log=tmp_path / f"{how}.txt") for how in ("refuse", "raise")]
    assert [outcome.reason for outcome in launcher.run(tasks)] == [
        "model.strides=0 must be 1", "ZeroDivisionError: division by zero",
    ]  # fmt: skip
    terminal = capfd.readouterr().err
    said = terminal if kind == "in_process" else (tmp_path / "refuse.txt").read_text()
    assert said.startswith("model.strides=0 must be 1\n")
    ours = terminal if kind == "in_process" else (tmp_path / "raise.txt").read_text()
    assert ours.count("Traceback") == 1
    assert said.count("Traceback") == (kind == "in_process")  # of the second task, in the same place


def test_who_waits_for_a_run_is_told_whose_it_is(tmp_path: Path) -> None:
    spec = RunSpec(load([]), RunIdentity("abc", "a"), tmp_path, {})
    journal, console = Journal(tmp_path / JOURNAL), Console(file=io.StringIO(), width=200)
    with Board(["a"], epochs=[1], console=console) as board:
        assert ExternalRuns([spec], board).look(0) == WAIT
        journal.close()
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(rf"is being trained by process {os.getpid()} on \S+, since \d{{4}}-\d\d-\d\d", said)


@pytest.mark.parametrize("key", ["sweep.runs_per_job=2", "launcher.sbatch=--time=5", "launcher.address=127.0.0.1:1"])
def test_a_key_that_the_launcher_does_not_read_is_refused(key: str) -> None:
    name = key.partition("=")[0]
    with pytest.raises(ValueError, match=rf"{name}=.* is read by launcher=\w+ only, and launcher=local\."):
        launcher_for(load([key]), num_runs=1)


@pytest.mark.parametrize(
    ("words", "flags", "said"),
    [
        (["trainer=fast", "model.strides=2-2-2"], ["avx512_bf16"], True),
        (["trainer=fast", "model.strides=2-2-2"], ["avx512_bf16", "amx_bf16"], False),
        (["trainer=fast", "model.strides=1-2-2"], ["avx512_bf16"], False),
        (["trainer=fast", "model.strides=2-2-2", "trainer.accelerator=gpu"], ["avx512_bf16"], False),
        (["model.strides=2-2-2"], ["avx512_bf16"], False),
    ],
)
def test_bf16_is_said_to_be_slower_where_it_was_measured_to_be(words: list[str], flags: list[str], said: bool) -> None:
    variant = examine(load(words), keys=("model.strides",))
    assert ("Here: strides=2-2-2." in slower_in_bf16([variant], flags)) is said

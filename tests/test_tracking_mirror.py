"""From journals into a SQLite store: everything once, whatever is repeated, killed, locked, deleted or hostile."""

from __future__ import annotations

import json
import logging
import math
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stridelab.tracking.find import find_run, find_sweep
from stridelab.tracking.mlflow_writer import Writer
from stridelab.tracking.run import Run, RunIdentity, clean, open_run, read_identity
from stridelab.tracking.status import settle
from stridelab.tracking.store import Store, analyze, connect
from stridelab.tracking.sync import sync
from tracking_stores import (
    FLUSH_S,
    Spec,
    identity,
    images_of,
    local_store,
    mirror_of,
    mirror_slowly,
    open_together,
    rows,
    send,
    stored_points,
)

SWEEP = RunIdentity("5eed", "s1", role="sweep", sweep="s1")


@pytest.fixture(scope="session", autouse=True)
def warm() -> ForkServerContext:
    """Children come from a process that has MLflow loaded; it loads while the first tests run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["tracking_stores", "stridelab.tracking.sync", "mlflow.store.tracking.sqlalchemy_store"]
    )
    forkserver.ensure_running()
    return context


@pytest.fixture
def store(tmp_path: Path, template: Path) -> Store:
    return local_store(tmp_path / "results", template)


@pytest.fixture
def runs(store: Store) -> Path:
    assert store.database is not None
    return store.database.parent / "runs"


def train(run: Run, *, steps: int = 10) -> None:
    for step in range(steps):
        run.metrics({"train/loss": 1 / (step + 1), "val/acc": step / 10}, step=step)


def expected(steps: int = 10) -> list[tuple[str, int, float]]:
    losses = [("train/loss", step, 1 / (step + 1)) for step in range(steps)]
    return losses + [("val/acc", step, step / 10) for step in range(steps)]


def test_all_of_a_run_arrives(store: Store, runs: Path) -> None:
    with mirror_of(store) as mirror:
        mirror.watch(runs / "a")
        with open_run(runs / "a", identity(params={"stride_1": 2}, tags={"stridelab.tags": "x"})) as run:
            train(run)
            run.metrics({"odd/nan": math.nan, "odd/up": math.inf, "odd/down": -math.inf}, step=0)
            run.dataset(Spec(), "train")
            (run.folder / "config.json").write_text('{"seed": 0}')
            run.artifact(run.folder / "config.json", to="config")
            assert mirror.flush(FLUSH_S)
            assert find_run(store).status == "RUNNING"
        assert mirror.flush(FLUSH_S)
        found = mirror.locate(runs / "a")
    record = find_run(store)
    assert found is not None
    assert record.run_id == found.run_id
    assert (record.name, record.status, record.reason) == (identity().name, "FINISHED", "")
    assert record.params == {"stride_1": "2"}
    assert record.tags["stridelab.tags"] == "x"
    assert record.metrics["val/acc"] == 0.9
    assert math.isnan(record.metrics["odd/nan"])
    assert (record.metrics["odd/up"], record.metrics["odd/down"]) == (math.inf, -math.inf)
    assert record.history("train/loss") == [(step, 1 / (step + 1)) for step in range(10)]
    assert record.history("odd/up") == [(0, math.inf)]
    assert record.artifact("config/config.json").read_text() == '{"seed": 0}'
    assert record.end_ms is not None
    assert record.start_ms <= record.end_ms
    ((name, digest, context),) = rows(
        store,
        "SELECT d.name, d.digest, t.value FROM datasets d JOIN inputs i ON i.source_id = d.dataset_uuid "
        "JOIN input_tags t ON t.input_uuid = i.input_uuid WHERE i.destination_id = ?",
        record.run_id,
    )
    assert (name, context) == (Spec().name, "train")
    assert Spec().digest.startswith(digest)
    assert len(digest) == 36


def test_the_caller_is_not_held_up_and_mlflow_comes_in_the_background(store: Store, tmp_path: Path) -> None:
    """Nothing is sent, and no MLflow imported, before the caller has recorded its run: who waited would wait on."""
    code = f"""
import sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from tracking_stores import identity, mirror_of
from stridelab.tracking.run import open_run
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.store import resolve_store
from stridelab.tracking.sync import Mirror
recorded, work = threading.Event(), Mirror._work
Mirror._work = lambda self: (recorded.wait(60), work(self))
results = Path({str(tmp_path / "results")!r})
mirror = mirror_of(resolve_store(TrackingConfig(), results_dir=results))
mirror.watch(results / "runs" / "a")
with open_run(results / "runs" / "a", identity()) as run:
    run.metrics({{"a": 1.0}}, step=0)
assert "mlflow" not in sys.modules
recorded.set()
assert mirror.flush(600)
mirror.close()
print("mlflow" in sys.modules, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True False\n", ""), "and MLflow says nothing"


def test_a_sweep_nests_its_runs_whatever_is_watched_first(store: Store, runs: Path) -> None:
    sweep = runs.parent / "sweeps" / "s1"
    children = [identity(number, parent=SWEEP.signature, sweep="s1") for number in range(4)]
    with open_run(sweep, SWEEP) as parent:
        parent.members([child.signature for child in reversed(children)])
        for child in children:
            with open_run(runs / child.signature, child) as run:
                train(run, steps=2)
    send(store, *(runs / child.signature for child in children), sweep)
    record = find_sweep(store)
    assert record.name == "s1"
    assert [run.tags["stridelab.signature"] for run in record.runs] == [one.signature for one in reversed(children)]
    assert {run.tags["mlflow.parentRunId"] for run in record.runs} == {record.run_id}
    assert "mlflow.parentRunId" not in record.tags


def test_a_run_that_another_sweep_trained_is_a_member_too(store: Store, runs: Path) -> None:
    for name, numbers, trains in (("s1", [1, 2], [1, 2]), ("s2", [3, 2], [3])):
        sweep = runs.parent / "sweeps" / name
        with open_run(sweep, RunIdentity(f"sweep-{name}", name, role="sweep", sweep=name)) as parent:
            parent.members([identity(number).signature for number in numbers])
            for number in trains:
                one = identity(number, parent=f"sweep-{name}", sweep=name)
                with open_run(runs / one.signature, one) as run:
                    train(run, steps=number)
        send(store, sweep, *(runs / identity(number).signature for number in trains))
    for name, numbers in (("s1", [1, 2]), ("s2", [3, 2])):
        found = find_sweep(store, name).runs
        assert [len(run.history("val/acc")) for run in found] == numbers


def test_of_a_run_that_was_trained_again_the_last_counts(store: Store, runs: Path) -> None:
    sweep = runs.parent / "sweeps" / "s1"
    with open_run(sweep, SWEEP):
        pass
    for folder in ("a", "a.2"):
        with open_run(runs / folder, identity(parent=SWEEP.signature)) as run:
            run.tags({"attempt": folder})
        time.sleep(0.002)  # the store orders by ms
    send(store, sweep, runs / "a", runs / "a.2")
    assert [run.tags["attempt"] for run in find_sweep(store).runs] == ["a.2"]
    assert find_run(store, identity().signature).tags["attempt"] == "a.2"


def test_images_are_stored_by_key_and_step_and_once(store: Store, runs: Path) -> None:
    rng = np.random.default_rng(0)
    narrow, wide = rng.integers(0, 256, (4, 32), np.uint8), rng.integers(0, 256, (20, 150, 3), np.uint8)
    with open_run(runs / "a", identity()) as run:
        for step in (0, 5, 10):
            run.image("feature_maps/01_conv", narrow, step=step)
        run.image("wide", wide, step=0)
    send(store, runs / "a")
    names = images_of(find_run(store))
    (runs / "a" / "mirror.json").unlink()
    send(store, runs / "a")
    record = find_run(store)
    assert images_of(record) == names, "sent twice, stored once"
    shown = {tuple(name.removeprefix("images/").split("+")[:3]) for name in names}
    assert shown == {("feature_maps~01_conv", "step", str(step)) for step in (0, 5, 10)} | {("wide", "step", "0")}
    assert len(names) == 2 * 4
    assert record.tags["mlflow.loggedImages"] == "True", "without it the UI does not look for images"
    for name in names:
        with Image.open(record.artifact(name)) as image:
            small = np.stack([narrow] * 3, axis=-1)
            pixels = np.asarray(image.convert("RGB"))
            if "wide" in name:
                assert image.size == (512, 3 * 20)
                assert np.array_equal(pixels[:, 31:481], wide.repeat(3, axis=0).repeat(3, axis=1))
                assert (pixels[:, :31] == 255).all()
                assert (pixels[:, 481:] == 255).all()
            elif name.endswith((".png", ".webp")) and "+step+0+" in name:
                assert np.array_equal(pixels, small.repeat(8, axis=0).repeat(8, axis=1)), "256 wide, no blur"


def test_sending_again_changes_nothing(store: Store, runs: Path) -> None:
    with open_run(runs / "a", identity(params={"seed": 0})) as run:
        train(run, steps=700)  # more than one call's worth
        run.dataset(Spec(), "train")
        run.metrics({"odd/nan": math.nan}, step=0)
    send(store, runs / "a")
    tables = ("runs", "metrics", "params", "tags", "inputs", "datasets", "latest_metrics")
    before = {table: sorted(map(str, rows(store, f"SELECT * FROM {table}"))) for table in tables}
    assert len(before["metrics"]) == 1401
    for lost in ("the position", "a part of the position"):
        if lost == "the position":
            (runs / "a" / "mirror.json").unlink()
        else:
            (runs / "a" / "mirror.json").write_text('{"x": ')
        send(store, runs / "a")
        assert {table: sorted(map(str, rows(store, f"SELECT * FROM {table}"))) for table in tables} == before


def test_a_run_that_goes_on_stays_one_run(store: Store, runs: Path) -> None:
    with open_run(runs / "a", identity()) as run:
        train(run, steps=6)
    with pytest.raises(RuntimeError, match="memory"), open_run(runs / "a", identity()):
        raise RuntimeError("out of memory")
    send(store, runs / "a")
    first = find_run(store)
    assert (first.status, first.reason) == ("FAILED", "RuntimeError: out of memory")
    assert "out of memory" in first.artifact("traceback.txt").read_text()
    with mirror_of(store) as mirror, open_run(runs / "a", identity()) as run:
        mirror.watch(runs / "a")
        assert mirror.flush(FLUSH_S)
        assert (find_run(store).status, find_run(store).reason) == ("RUNNING", "")
        train(run)
    second = find_run(store)
    assert (second.run_id, second.status, second.reason) == (first.run_id, "FINISHED", "")
    assert stored_points(store, second.run_id) == expected()


def test_metrics_are_stored_once_through_a_chain_of_kills(store: Store, runs: Path, warm: ForkServerContext) -> None:
    steps, positions = (400, (1, 8_000, 16_000)) if "STRIDELAB_FAULTS" in os.environ else (250, (1, 8_000))
    for position in positions:  # bytes of the journal that are known to be in the store
        child = warm.Process(target=mirror_slowly, args=(store, runs / "a", steps))
        child.start()
        while child.is_alive() and sent(runs / "a") <= position:
            time.sleep(0.002)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL, "it ended before it could be killed"
    assert find_run(store).status == "RUNNING"
    child = warm.Process(target=mirror_slowly, args=(store, runs / "a", steps))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert len(rows(store, "SELECT run_uuid FROM runs")) == 1
    assert find_run(store).status == "FINISHED"
    assert stored_points(store, find_run(store).run_id) == expected(steps)


def sent(folder: Path) -> int:
    try:
        (position,) = json.loads((folder / "mirror.json").read_text()).values()
    except (FileNotFoundError, json.JSONDecodeError):
        return 0
    return int(position["offset"])


def test_a_torn_journal_is_sent_up_to_the_tear_and_completed_later(store: Store, runs: Path) -> None:
    with open_run(runs / "a", identity()) as run:
        train(run)
    journal = runs / "a" / "journal.jsonl"
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    metrics = [number for number, line in enumerate(lines) if b'"metrics"' in line]
    journal.write_bytes(b"".join(lines[: metrics[-1]]) + lines[metrics[-1]][:-5])  # torn in the last metrics
    with mirror_of(store) as mirror:
        mirror.watch(runs / "a")
        assert not mirror.flush(1), "the torn piece never counts as sent"
        with open_run(runs / "a", identity()) as run:
            train(run)
        assert mirror.flush(FLUSH_S)
    assert stored_points(store, find_run(store).run_id) == expected()


def test_a_damaged_journal_is_said_and_sends_nothing_more(
    store: Store, runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("a", "b"):
        with open_run(runs / folder, identity()) as run:
            train(run)
    journal = runs / "a" / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:4], b"x" + lines[4][1:], *lines[5:]]))
    with mirror_of(store) as mirror:
        mirror.watch(runs / "a")
        mirror.watch(runs / "b")
        assert not mirror.flush(FLUSH_S)
        assert caplog.text.count("is damaged after record 4") == 1
        mirror.close(0)
    finished = rows(store, "SELECT status FROM runs ORDER BY status")
    assert finished == [("FINISHED",), ("RUNNING",)], "the other run is not held up"


def test_a_store_that_is_lost_is_made_anew_from_the_journals(store: Store, runs: Path, template: Path) -> None:
    sweep = runs.parent / "sweeps" / "s1"
    with open_run(sweep, SWEEP) as parent:
        parent.members([identity().signature])
        with open_run(runs / "a", identity(parent=SWEEP.signature)) as run:
            train(run)
            run.image("map", np.zeros((2, 2), np.uint8), step=0)
    send(store, sweep, runs / "a")
    results = runs.parent
    moved = results.parent / "moved"
    results.rename(moved)
    shutil.rmtree(moved / "artifacts")
    for file in moved.glob("mlflow.db*"):
        file.unlink()
    other = local_store(moved, template)
    assert sync(other, moved, timeout_s=FLUSH_S).complete
    (run,) = find_sweep(other, "s1").runs
    assert stored_points(other, run.run_id) == expected()
    assert len(images_of(run)) == 2


def test_the_same_database_emptied_is_filled_again(store: Store, runs: Path) -> None:
    with open_run(runs / "a", identity()) as run:
        train(run)
    send(store, runs / "a")
    assert store.database is not None
    with closing(sqlite3.connect(store.database)) as database:
        for table in ("metrics", "latest_metrics", "tags", "runs"):
            database.execute(f"DELETE FROM {table}")
        database.commit()
    assert sync(store, runs.parent, timeout_s=FLUSH_S).complete
    assert stored_points(store, find_run(store).run_id) == expected()


def test_a_run_deleted_in_the_ui_stays_deleted(store: Store, runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    with mirror_of(store) as mirror, open_run(runs / "a", identity()) as run:
        mirror.watch(runs / "a")
        train(run, steps=3)
        assert mirror.flush(FLUSH_S)
        connect(store).delete_run(find_run(store).run_id)
        train(run)
        assert mirror.flush(FLUSH_S), "nothing is left to do"
    assert "was deleted in the store" in caplog.text
    assert rows(store, "SELECT lifecycle_stage, COUNT(*) FROM runs GROUP BY 1") == [("deleted", 1)]


def test_a_deleted_experiment_comes_back(store: Store, runs: Path, caplog: pytest.LogCaptureFixture) -> None:
    for folder in ("a", "b"):
        with open_run(runs / folder, identity(name=folder)) as run:
            train(run, steps=1)
        send(store, runs / folder)
        if folder == "a":
            connect(store).delete_experiment(find_run(store).experiment_id)
            with pytest.raises(ValueError, match="there is no run yet"):
                find_run(store)
    assert "it is restored" in caplog.text
    assert find_run(store, "a").name == "a"


def test_a_locked_database_holds_nobody_up(store: Store, runs: Path, senders: set[str]) -> None:
    assert store.database is not None
    with mirror_of(store) as mirror, open_run(runs / "a", identity()) as run:
        mirror.watch(runs / "a")
        train(run, steps=2)
        assert mirror.flush(FLUSH_S)
        with closing(sqlite3.connect(store.database, isolation_level=None)) as database:
            database.execute("BEGIN EXCLUSIVE")
            train(run)
            assert not mirror.flush(0.5)
            database.execute("ROLLBACK")
        assert mirror.flush(FLUSH_S)
    assert senders == {"mlflow-mirror"}, "who trains never touches the store"
    assert stored_points(store, find_run(store).run_id) == expected()


def test_a_database_that_is_none_is_said_once_and_keeps_nobody_from_training(
    store: Store, runs: Path, template: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.database is not None
    store.database.write_bytes(b"this is no database, " * 100)
    with mirror_of(store) as mirror, open_run(runs / "a", identity()) as run:
        mirror.watch(runs / "a")
        train(run)
        assert not mirror.flush(2)
        assert caplog.text.count("does not take runs (DatabaseError: file is not a database)") == 1
        shutil.copyfile(template, store.database)
        assert mirror.flush(FLUSH_S)
    assert stored_points(store, find_run(store).run_id) == expected()


def test_what_mlflow_refuses_does_not_hold_up_the_rest(
    store: Store, runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with open_run(runs / "a", identity(params={"seed": 0})) as run:
        train(run)
        (run.folder / "a#b.txt").write_text("x")
        run.artifact(run.folder / "a#b.txt")
        (run.folder / "gone.txt").write_text("x")
        run.artifact(run.folder / "gone.txt")
        (run.folder / "gone.txt").unlink()
        run.image("map", np.zeros((2, 2), np.uint8), step=0)
        run.image("map", np.zeros((2, 2), np.uint8), step=1)
        (run.folder / "images" / "map+step+1.png").write_bytes(b"no image")
        run._journal.append("params", {"seed": "1", "other": "2"})  # as another version might
    send(store, runs / "a")
    record = find_run(store)
    assert record.status == "FINISHED"
    assert stored_points(store, record.run_id) == expected()
    assert record.params == {"seed": "0", "other": "2"} or record.params == {"seed": "1", "other": "2"}
    assert len(images_of(record)) == 2
    assert "gone.txt is gone" in caplog.text
    assert "image map at step 1 cannot be shown" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE runs; --",
        '<script>alert("x")</script>',
        "../../etc/x\n",
        "\u00e9\U0001f600",
        "a\0b\udcff",
        "x" * 9000,
    ],
)
def test_hostile_texts(store: Store, runs: Path, text: str) -> None:
    sweep = RunIdentity("5eed", text, role="sweep", sweep=text)
    one = RunIdentity("1", text, sweep=text, variant=text, parent="5eed", params={"p": text}, tags={"t": text})
    with open_run(runs.parent / "sweeps" / "x", sweep), open_run(runs / "a", one) as run:
        run.metrics({"a": 1.0}, step=0)
    send(store, runs.parent / "sweeps" / "x", runs / "a")
    text = clean(text)
    (record,) = find_sweep(store, text[:8000]).runs
    assert record.name == text[:250]
    assert record.tags["stridelab.variant"] == text[:8000]
    assert record.params["p"] == text[:6000]


def test_two_mirrors_on_the_same_runs(store: Store, runs: Path) -> None:
    folders = record_many(runs, 12)
    with mirror_of(store) as first, mirror_of(store) as second:
        for folder in folders:
            first.watch(folder)
            second.watch(folder)
        assert first.flush(FLUSH_S)
        assert second.flush(FLUSH_S)
    assert rows(store, "SELECT status, COUNT(*) FROM runs GROUP BY 1") == [("FINISHED", 12)]
    assert rows(store, "SELECT COUNT(*) FROM metrics") == [(12 * 100,)]


def test_more_runs_than_files_may_be_open(store: Store, runs: Path) -> None:
    record_many(runs, 1)
    send(store, runs / "0")  # opens what MLflow keeps open
    folders = record_many(runs, 40)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(path.name) for path in Path("/proc/self/fd").iterdir()}
    free = [number for number in range(soft) if number not in used][:25]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[-1] + 1, hard))
    try:
        send(store, *folders)
        send(store, *folders)  # nothing is left to send
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert rows(store, "SELECT status, COUNT(*) FROM runs GROUP BY 1") == [("FINISHED", 40)]


def record_many(runs: Path, count: int) -> list[Path]:
    for number in range(count):
        with open_run(runs / str(number), identity(number)) as run:
            train(run, steps=50)
    return [runs / str(number) for number in range(count)]


def test_processes_open_a_fresh_store_at_once(tmp_path: Path, warm: ForkServerContext) -> None:
    """The race is between any two; `make faults` starts eight."""
    count = 8 if "STRIDELAB_FAULTS" in os.environ else 3
    for end in ("-wal", "-shm"):  # of a file that was moved away after a kill: a new one must not take them for its own
        (tmp_path / f"mlflow.db{end}").write_bytes(b"of another file" * 1000)
    start = warm.Barrier(count)
    children = [warm.Process(target=open_together, args=(tmp_path, number, start)) for number in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * count
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert sorted(database.execute("SELECT value FROM metrics")) == [(float(number),) for number in range(count)]
        assert database.execute("SELECT COUNT(*) FROM experiments WHERE name = 'stridelab'").fetchone() == (1,)


def test_sync_settles_and_sends_what_was_cut_off(store: Store, runs: Path) -> None:
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from tracking_stores import identity
from stridelab.tracking.run import open_run
opened = open_run(Path({str(runs / "a")!r}), identity())
opened.__enter__().metrics({{"a": 1.0}}, step=0)
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    with open_run(runs / "b", identity(2)):
        assert sync(store, runs.parent, timeout_s=FLUSH_S).complete
        assert find_run(store, identity(1).signature).status == "KILLED"
        assert find_run(store, identity(1).signature).reason == "its process ended without a word"
        assert find_run(store, identity(2).signature).status == "RUNNING"
    assert not settle(runs / "a", status="KILLED", reason="twice")


def test_statistics_flip_the_slow_query(store: Store, runs: Path) -> None:
    for number in range(12):
        with open_run(runs / str(number), identity(number)) as run:
            train(run, steps=20)
    send(store, *(runs / str(number) for number in range(12)))
    analyze(store)
    plan = rows(store, "EXPLAIN QUERY PLAN SELECT * FROM metrics WHERE run_uuid = 'a' AND key = 'val/acc'")
    assert "index_metrics_run_uuid_key_step" in str(plan)


def test_a_mirror_that_was_closed_early_says_what_is_left(
    store: Store, runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.database is not None
    store.database.write_bytes(b"no database")
    with open_run(runs / "a", identity()):
        pass
    mirror = mirror_of(store)
    mirror.watch(runs / "a")
    with caplog.at_level(logging.WARNING):
        assert not mirror.close(0.5)
    assert "1 run is not yet complete in sqlite:///" in caplog.text
    assert mirror.locate(runs / "a") is None
    assert mirror.locate(runs / "unknown") is None


def sweep_of(results: Path, *numbers: int) -> list[Path]:
    """Folders of a sweep and its runs, the sweep's first."""
    sweep = results / "sweeps" / "s1"
    with open_run(sweep, SWEEP) as parent:
        parent.members([identity(number).signature for number in numbers])
        for number in numbers:
            one = identity(number, parent=SWEEP.signature)
            with open_run(results / "runs" / one.signature, one) as run:
                train(run)
    return [sweep, *(results / "runs" / identity(number).signature for number in numbers)]


def parents_in(store: Store) -> set[tuple[str, str]]:
    """(parent of a run that ended well, id of the sweep's run)"""
    (sweep,) = rows(store, "SELECT run_uuid FROM tags WHERE key = 'stridelab.role' AND value = 'sweep'")
    found = rows(store, "SELECT value FROM tags WHERE key = 'mlflow.parentRunId'")
    return {(parent, sweep[0]) for (parent,) in found}


def copy_database(source: Path, target: Path) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


@pytest.mark.parametrize("when", ["before a run", "in the middle of one"])
def test_a_database_restored_from_a_backup_is_completed(store: Store, runs: Path, tmp_path: Path, when: str) -> None:
    assert store.database is not None
    with open_run(runs / "a", identity()) as run:
        train(run, steps=2 if when == "in the middle of one" else 0)
        if when == "in the middle of one":
            send(store, runs / "a")
        copy_database(store.database, tmp_path / "backup.db")
        train(run)
    send(store, runs / "a")
    copy_database(tmp_path / "backup.db", store.database)
    done = sync(store, runs.parent, timeout_s=FLUSH_S)
    assert (done.complete, done.said) == (True, ())
    assert find_run(store).status == "FINISHED"
    assert stored_points(store, find_run(store).run_id) == expected()


def test_artifacts_that_were_removed_are_sent_again(store: Store, runs: Path) -> None:
    with open_run(runs / "a", identity()) as run:
        (run.folder / "config.json").write_text("{}")
        run.artifact(run.folder / "config.json")
    send(store, runs / "a")
    shutil.rmtree(store.artifact_root)
    assert sync(store, runs.parent, timeout_s=FLUSH_S).complete
    assert find_run(store).artifact("config.json").read_text() == "{}"


def test_the_same_runs_under_another_experiment_or_a_renamed_one(store: Store, runs: Path) -> None:
    folders = sweep_of(runs.parent, 1, 2)
    send(store, *folders)
    client = connect(store)
    client.rename_experiment(find_run(store).experiment_id, "renamed")
    for name in (store.experiment, "another"):
        other = replace(store, experiment=name)
        assert sync(other, runs.parent, timeout_s=FLUSH_S).complete
        found = find_sweep(other, "s1")
        assert len(found.runs) == 2
        assert {run.tags["mlflow.parentRunId"] for run in found.runs} == {found.run_id}
        assert stored_points(store, found.runs[0].run_id) == expected()


def test_another_empty_database_in_the_middle_gets_everything_with_its_new_parent(
    store: Store, runs: Path, template: Path
) -> None:
    assert store.database is not None
    with mirror_of(store) as mirror:
        folders = sweep_of(runs.parent, 1, 2, 3)
        for folder in folders:
            mirror.watch(folder)
        assert mirror.flush(FLUSH_S)
        assert len(parents_in(store)) == 1
        for table in ("metrics", "latest_metrics", "tags", "params", "runs"):
            with closing(sqlite3.connect(store.database)) as database, database:
                database.execute(f"DELETE FROM {table}")
        assert mirror.flush(FLUSH_S, recheck=True)
    assert rows(store, "SELECT status, count(*) FROM runs GROUP BY 1") == [("FINISHED", 4)]
    assert [parent == sweep for parent, sweep in parents_in(store)] == [True]


@pytest.mark.parametrize("how", ["replaced", "removed first", "replaced by an older state"])
def test_another_file_in_the_middle_gets_everything(
    store: Store, runs: Path, template: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """MLflow keeps a file open that is no longer there: nothing may go on into it."""
    assert store.database is not None
    other = runs.parent.parent / "other.db"
    shutil.copyfile(template, other)
    with mirror_of(store) as mirror:
        with open_run(runs / "a", identity()) as run:
            mirror.watch(runs / "a")
            train(run, steps=2)
            assert mirror.flush(FLUSH_S)
            if how == "replaced by an older state":
                copy_database(store.database, other)
                train(run, steps=4)
                assert mirror.flush(FLUSH_S)
            if how == "removed first":
                for path in store.database.parent.glob("mlflow.db*"):
                    path.unlink()
            other.replace(store.database)
            train(run)
        assert mirror.flush(FLUSH_S, recheck=True)
    assert "another file is where the store" in caplog.text
    assert rows(store, "SELECT status, count(*) FROM runs GROUP BY 1") == [("FINISHED", 1)]
    assert stored_points(store, find_run(store).run_id) == expected()
    assert rows(store, "PRAGMA integrity_check") == [("ok",)]


def test_a_lost_parent_is_replaced_in_runs_that_are_all_there(store: Store, runs: Path) -> None:
    assert store.database is not None
    folders = sweep_of(runs.parent, 1, 2)
    send(store, *folders)
    (sweep,) = rows(store, "SELECT run_uuid FROM tags WHERE key = 'stridelab.role' AND value = 'sweep'")
    with closing(sqlite3.connect(store.database)) as database, database:
        for table in ("tags", "runs"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", sweep)
    assert sync(store, runs.parent, timeout_s=FLUSH_S).complete
    assert [parent == now for parent, now in parents_in(store)] == [True]


def test_what_was_deleted_in_the_store_is_said_with_the_way_back(store: Store, runs: Path) -> None:
    folders = sweep_of(runs.parent, 1, 2)
    send(store, *folders)
    gone = find_run(store, identity(1).signature)
    connect(store).delete_run(gone.run_id)
    done = sync(store, runs.parent, timeout_s=FLUSH_S)
    assert done.complete
    assert [said for said in done.said if gone.run_id in said and "mlflow runs restore --run-id" in said]
    found = find_sweep(store, "s1", results=runs.parent)
    assert [run.tags["stridelab.signature"] for run in found.runs] == [identity(n).signature for n in (1, 2)]


def finish_two(runs: Path) -> None:
    for number in (1, 2):
        with open_run(runs / str(number), identity(number)) as run:
            train(run)
        (runs / str(number) / "result.json").write_text("{}")


@pytest.mark.parametrize("content", ["", "[1, 2]", "{}", '{"uid": 1, "signature": "a", "name": "b", "role": "run"}'])
def test_a_run_that_no_longer_tells_which_it_is_is_put_aside_and_its_own_again_after_the_next_sweep(
    store: Store, runs: Path, content: str
) -> None:
    finish_two(runs)
    before = read_identity(runs / "1")
    (runs / "1" / "run.json").write_text(content)
    done = sync(store, runs.parent, timeout_s=FLUSH_S)
    assert any("run.json is damaged" in said and "put aside" in said for said in done.said)
    assert not (runs / "1" / "result.json").exists(), "it is to be trained again"
    with open_run(runs / "1", identity(1)) as run:
        train(run)
    assert sync(store, runs.parent, timeout_s=FLUSH_S).said == ()
    assert read_identity(runs / "1") == before
    assert find_run(store, identity(1).signature).tags["stridelab.uid"] == before["uid"]


@pytest.mark.parametrize("position", [0.3, 0.6, 0.9])
def test_a_journal_with_a_flipped_bit_is_put_aside_and_the_rest_goes_on(
    store: Store, runs: Path, position: float
) -> None:
    finish_two(runs)
    journal = runs / "1" / "journal.jsonl"
    content = bytearray(journal.read_bytes())
    content[int(position * len(content))] ^= 4
    journal.write_bytes(content)
    done = sync(store, runs.parent, timeout_s=FLUSH_S)
    assert done.complete
    assert any("damaged after record" in said and "put aside" in said for said in done.said)
    assert (runs / "1" / "journal.jsonl.bad").read_bytes() == content
    assert not (runs / "1" / "result.json").exists(), "it is to be trained again"
    assert (runs / "2" / "result.json").exists()
    assert find_run(store).tags["stridelab.signature"] == identity(2).signature
    with open_run(runs / "1", identity(1)) as run:
        train(run)
    assert sync(store, runs.parent, timeout_s=FLUSH_S).said == ()


class Absent:
    """A package that is not installed, whatever is."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, *given: object) -> None:
        if name == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("uri", "content", "advice"),
    [
        ("sqlite:///{}/bad.db", b"this is no database " * 100, "move the file away"),
        ("postgresql+psycopg2://me:secret@127.0.0.1:1/db", b"", "psycopg2-binary"),
        ("mysql+pymysql://me:secret@127.0.0.1:1/db", b"", "install the driver"),
    ],
)
def test_what_waiting_does_not_mend_is_said_at_once(
    tmp_path: Path, uri: str, content: bytes, advice: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tries = list[Store]()
    monkeypatch.setattr("stridelab.tracking.sync.Writer", lambda store: (tries.append(store), Writer(store))[1])
    driver = uri.partition("://")[0].partition("+")[2]
    if driver:
        monkeypatch.delitem(sys.modules, driver, raising=False)
        monkeypatch.setattr(sys, "meta_path", [Absent(driver), *sys.meta_path])
    if content:
        (tmp_path / "bad.db").write_bytes(content)
    with open_run(tmp_path / "runs" / "a", identity()):
        pass
    done = sync(Store(uri.format(tmp_path), str(tmp_path / "artifacts"), "x"), tmp_path, timeout_s=600)
    assert len(tries) < 5, "pauses double: ten and more tries fit into the time it was given"
    assert not done.complete
    assert advice in " ".join(done.said)
    assert "Nothing is training" in caplog.text
    assert "secret" not in caplog.text + str(done)

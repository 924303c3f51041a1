"""More figures of a run that has ended: it stays as it ended, here and in the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from stridelab.tracking.find import find_run
from stridelab.tracking.journal import JOURNAL, last, read
from stridelab.tracking.run import amend, open_run
from stridelab.tracking.status import read_status, repair, settle
from tracking_stores import identity, leave_result, local_store, rows, send, stored_points


def test_a_finished_run_takes_more_and_is_still_finished_when_it_was(tmp_path: Path, template: Path) -> None:
    store, folder = local_store(tmp_path, template), tmp_path / "runs" / "a"
    with open_run(folder, identity()) as run:
        run.metrics({"val/acc": 0.5}, step=1)
    leave_result(folder)
    send(store, folder)
    before = find_run(store)
    ended = rows(store, "SELECT status, end_time FROM runs")
    for step, value in ((1, 10.0), (1, 11.0), (2, 12.0)):
        with amend(folder) as run:
            run.metrics({"benchmark/x_ms": value}, step=step)
            run.tags({"benchmarks": f"trusted {value}"})
            assert read_status(folder) == ("FINISHED", ""), "also while it is written"
        assert read_status(folder) == ("FINISHED", "")
        assert repair(tmp_path) == []
        assert not settle(folder, status="KILLED", reason="no")
    send(store, folder)
    send(store, folder)
    after = find_run(store)
    assert rows(store, "SELECT status, end_time FROM runs") == ended
    assert after.run_id == before.run_id
    assert stored_points(store, after.run_id) == [
        ("benchmark/x_ms", 1, 10.0),
        ("benchmark/x_ms", 2, 12.0),
        ("val/acc", 1, 0.5),
    ]
    assert after.tags["benchmarks"] == "trusted 12.0"


def test_what_has_not_ended_or_never_began_is_not_amended(tmp_path: Path) -> None:
    with (
        open_run(tmp_path / "a", identity()),
        pytest.raises(ValueError, match="no run that has ended"),
        amend(tmp_path / "a"),
    ):
        pass
    with pytest.raises(ValueError, match="no run that has ended"), amend(tmp_path / "b"):
        pass
    assert not (tmp_path / "b").exists()


def test_two_do_not_amend_a_run_at_once(tmp_path: Path) -> None:
    with open_run(tmp_path / "a", identity()):
        pass
    with amend(tmp_path / "a"), pytest.raises(BlockingIOError), amend(tmp_path / "a"):
        pass


def test_the_status_is_found_however_much_follows_it(tmp_path: Path) -> None:
    with open_run(tmp_path / "a", identity()):
        pass
    with amend(tmp_path / "a") as run:
        for step in range(2000):
            run.metrics({"benchmark/x_ms": 1.0}, step=step)
    journal = tmp_path / "a" / JOURNAL
    assert journal.stat().st_size > 2 * 65536
    assert read_status(tmp_path / "a") == ("FINISHED", "")
    assert last(journal, "metrics") == read(journal)[-1]

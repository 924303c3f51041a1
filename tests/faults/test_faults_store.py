"""Promise: the tracking store may be away, slow or mad; training does not wait, and nothing is lost or doubled."""

from __future__ import annotations

import re
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest
from injection import (
    TIMES,
    Evidence,
    agenda_of,
    attempts,
    complete,
    evidence,
    points_of,
    stored,
    sweep,
    use_store,
    work_of,
)
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from stridelab.report import run_table
from stridelab.run import read_result
from stridelab.sweep.launchers.local import LocalLauncher
from stridelab.tracking.find import find_sweep
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.store import Store, resolve_store
from stridelab.tracking.sync import sync
from tracking_stores import free_port, rows, running_server, stored_points

SEEDS = "seed=0,1"


@pytest.fixture(scope="module")
def reference(pool: LocalLauncher, tmp_path_factory: pytest.TempPathFactory) -> list[Evidence]:
    results = tmp_path_factory.mktemp("reference")
    return [complete(pool, work_of(results, f"seed={seed}")) for seed in (0, 1)]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a sweep, seconds for the store and not a minute."""
    monkeypatch.setattr("stridelab.sweep.summary.FLUSH_S", 1.0)
    monkeypatch.setattr("stridelab.sweep.sweep.CLOSE_S", 1.0)


def trained(results: Path, reference: list[Evidence]) -> list[Path]:
    folders = [work.folder for work in agenda_of(results, SEEDS).specs]
    assert [evidence(folder) for folder in folders] == reference
    return folders


def answer(handler: BaseHTTPRequestHandler, code: int, body: bytes) -> None:
    handler.send_response(code)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    handler.connection.close()


MANNERS = {
    "500": lambda handler: answer(handler, 500, b"{}"),
    "429": lambda handler: answer(handler, 429, b"{}"),
    "garbage": lambda handler: answer(handler, 200, b"<html>not what was asked"),
    "reset": reset,
    "hangs": lambda handler: time.sleep(5),
}


@contextmanager
def bad_server(manner: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                MANNERS[manner](self)
            except OSError:
                self.close_connection = True

        do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "manner",
    ["500", *(pytest.param(manner, marks=pytest.mark.faults) for manner in ("429", "garbage", "reset", "hangs"))],
)
def test_a_server_that_misbehaves(
    tmp_path: Path, template: Path, reference: list[Evidence], manner: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 17: every run is trained; what the server did not take goes to the next store, once."""
    results = use_store(tmp_path, template)
    with bad_server(manner) as uri:
        assert sweep(results, SEEDS, f"tracking.uri={uri}") == 0
    assert "Nothing is lost" in capsys.readouterr().out
    folders = trained(results, reference)
    expected = {folder.name: dict(one.points) for folder, one in zip(folders, reference, strict=True)}
    assert stored(results, folders) == expected


@pytest.mark.usefixtures("impatient")
def test_a_server_that_is_not_there(
    tmp_path: Path, template: Path, reference: list[Evidence], capsys: pytest.CaptureFixture[str]
) -> None:
    """Fault 16: down from start to end; `runs.py sync` delivers, and once more changes nothing."""
    results = use_store(tmp_path, template)
    assert sweep(results, SEEDS, f"tracking.uri=http://me:a-secret@127.0.0.1:{free_port()}") == 0
    said = capsys.readouterr()
    assert re.search(r"runs(\.py)? sync` with the same paths", said.out)
    assert "a-secret" not in said.out + said.err
    assert not [path for path in results.rglob("*") if path.is_file() and b"a-secret" in path.read_bytes()]
    folders = trained(results, reference)
    store = resolve_store(TrackingConfig(), results_dir=results)
    for _ in range(2):
        assert sync(store, results).complete
    expected = {folder.name: dict(one.points) for folder, one in zip(folders, reference, strict=True)}
    assert stored(results, folders) == expected


@pytest.mark.faults
def test_a_real_server_dies_in_the_middle_and_comes_back(
    tmp_path: Path, template: Path, reference: list[Evidence]
) -> None:
    """Fault 16, `mlflow server` killed while a sweep runs and started again."""
    home = tmp_path / "server"
    home.mkdir()
    with running_server(home, template) as server:

        def blink() -> None:
            while not list(tmp_path.glob("results/runs/*/checkpoints/*")):
                time.sleep(0.02)
            server.kill()
            time.sleep(1)
            server.start()

        thread = threading.Thread(target=blink)
        thread.start()
        assert sweep(tmp_path / "results", SEEDS, f"tracking.uri={server.uri}") == 0
        thread.join()
        server.wait_until_up()
        folders = trained(tmp_path / "results", reference)
        store = server.store(TrackingConfig().experiment)
        assert sync(store, tmp_path / "results").complete
        found = [points_in(server.database(), folder.name) for folder in folders]
    assert found == [dict(one.points) for one in reference]


@pytest.mark.faults
@pytest.mark.usefixtures("impatient")
def test_a_server_that_asks_for_a_password(
    tmp_path: Path, template: Path, reference: list[Evidence], capsys: pytest.CaptureFixture[str]
) -> None:
    """`mlflow server --app-name basic-auth`: a wrong password is said at once, with what helps, and holds up nothing;
    with the right one, a server that is killed in the middle gets all of it. Neither password is kept anywhere."""
    pytest.importorskip("flask_wtf", reason="MLflow's basic-auth needs Flask-WTF")
    right, wrong, results = *(f"pa/ss:w@rd' {one}" for one in ("right", "wrong")), tmp_path / "results"
    with running_server(tmp_path / "server", template, password=right) as server:
        assert sweep(results, SEEDS, f"tracking.uri={server.uri_with(wrong)}") == 0
        said = capsys.readouterr()
        assert "refuses this name and password" in said.out + said.err
        folders = trained(results, reference)
        assert rows(server.database(), "SELECT count(*) FROM runs") == [(0,)]
        store = resolve_store(TrackingConfig(server.uri_with(right)), results_dir=results)
        threading.Timer(0.5, server.kill).start()
        assert not sync(store, results, timeout_s=10).complete
        server.start()
        server.wait_until_up()
        assert sync(store, results).complete
        found = [points_in(server.database(), folder.name) for folder in folders]
        assert found == [dict(one.points) for one in reference]
    kept = [path.read_bytes() for path in results.rglob("*") if path.is_file()]
    for spelled in (right, wrong, quote(right, safe=""), quote(wrong, safe="")):
        assert spelled not in said.out + said.err
        assert not [one for one in kept if spelled.encode() in one]


def points_in(database: Store, signature: str) -> dict[tuple[str, int], float]:
    """Of the one run with that signature, one row each."""
    query = "SELECT run_uuid FROM tags WHERE key = 'stridelab.signature' AND value = ?"
    ((run_id,),) = rows(database, query, signature)
    points = stored_points(database, run_id)
    assert len({(name, step) for name, step, _ in points}) == len(points)
    return {(name, step): value for name, step, value in points if not name.startswith(TIMES)}


@pytest.mark.faults
@pytest.mark.usefixtures("impatient")
def test_a_database_that_is_locked(tmp_path: Path, template: Path, reference: list[Evidence]) -> None:
    """Fault 18: somebody holds SQLite's lock from start to end; what was not taken is taken later, once."""
    results = use_store(tmp_path, template)
    with closing(sqlite3.connect(results / "mlflow.db", isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert sweep(results, SEEDS) == 0
        folders = trained(results, reference)
        database.execute("ROLLBACK")
    expected = {folder.name: dict(one.points) for folder, one in zip(folders, reference, strict=True)}
    assert stored(results, folders) == expected


@pytest.mark.usefixtures("impatient")
def test_a_database_that_is_damaged_is_made_again_from_the_journals(
    tmp_path: Path, template: Path, reference: list[Evidence]
) -> None:
    """Fault 18: a header overwritten; the runs are trained, and a fresh store receives all of them."""
    results = use_store(tmp_path, template)
    (results / "mlflow.db").write_bytes(b"this is no database" * 1000)
    assert sweep(results, SEEDS) == 0
    folders = trained(results, reference)
    for path in results.glob("mlflow.db*"):
        path.unlink()
    use_store(results, template)
    expected = {folder.name: dict(one.points) for folder, one in zip(folders, reference, strict=True)}
    assert stored(results, folders) == expected


@pytest.mark.faults
def test_another_empty_database_in_mid_sweep_decides_nothing(
    tmp_path: Path, template: Path, reference: list[Evidence], capsys: pytest.CaptureFixture[str]
) -> None:
    """Behind the same address: the sweep ends with 0 and its whole table, and the store has all of it afterwards."""
    results = use_store(tmp_path, template)

    def change() -> None:
        while not list(results.glob("runs/*/result.json")):
            time.sleep(0.02)
        with closing(sqlite3.connect(template)) as empty, closing(sqlite3.connect(results / "mlflow.db")) as database:
            empty.backup(database)

    thread = threading.Thread(target=change)
    thread.start()
    assert sweep(results, SEEDS) == 0
    thread.join()
    assert re.search(r"^strides=4-2-2 +2 ", capsys.readouterr().out, re.M), "both runs are in the table"
    folders = trained(results, reference)
    expected = {folder.name: dict(one.points) for folder, one in zip(folders, reference, strict=True)}
    assert stored(results, folders) == expected


def fetched(results: Path, reference: list[Evidence]) -> None:
    """All runs of the sweep are in `results`, as the reference has them, and none was trained there."""
    for work, one in zip(agenda_of(results, SEEDS).specs, reference, strict=True):
        result = read_result(work.folder)
        assert result is not None
        assert {key: value for key, value in result.items() if key.endswith("_digest")} == one.digests
        assert points_of(work.folder) == one.points
        assert attempts(work.folder) == 1
        assert not (work.folder / "output.txt").exists()


def test_runs_whose_folders_are_lost_are_taken_from_the_store(
    tmp_path: Path, template: Path, reference: list[Evidence], capsys: pytest.CaptureFixture[str]
) -> None:
    """Found by tag: what the store has finished is not trained again; what it does not have whole is."""
    results = use_store(tmp_path, template)
    assert sweep(results, SEEDS) == 0
    trained(results, reference)
    shutil.rmtree(results / "runs")
    assert sweep(results, SEEDS, "sweep.preview=true") == 0
    said = capsys.readouterr().out
    assert said.count("done, in the tracking store") == 2
    assert "Nothing to train." in said
    assert not (results / "runs").exists()
    assert sweep(results, SEEDS) == 0
    assert "2 runs were finished in the tracking store already" in capsys.readouterr().out
    fetched(results, reference)
    folders = [work.folder for work in agenda_of(results, SEEDS).specs]
    assert stored(results, folders) == {
        folder.name: dict(one.points) for folder, one in zip(folders, reference, strict=True)
    }
    shutil.rmtree(folders[0])
    for path in (results / "artifacts").rglob("folder.zip"):
        path.unlink()
    assert sweep(results, SEEDS) == 0
    assert "is in the store but not whole" in capsys.readouterr().out
    assert evidence(folders[0]) == reference[0]


@pytest.mark.faults
def test_two_results_folders_on_one_server_share_what_is_finished(
    tmp_path: Path, template: Path, reference: list[Evidence], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two checkouts, one `mlflow server`: the second trains nothing, and reports the same; without the server it says
    so, and trains."""
    home, here, there = (tmp_path / name for name in ("server", "here", "there"))
    home.mkdir()
    with running_server(home, template) as server:
        store = server.store(TrackingConfig().experiment)
        tables = []
        for results in (here, there):
            assert sweep(results, SEEDS, f"tracking.uri={server.uri}") == 0
            tables.append(run_table(find_sweep(store, "test")))
        assert tables[0].equals(tables[1])
        said = capsys.readouterr().out
        assert said.count("2 runs were finished in the tracking store already") == 1
        fetched(there, reference)
        assert rows(server.database(), "SELECT count(*) FROM tags WHERE key='stridelab.role' AND value='run'") == [(2,)]
        assert sweep(here, "seed=0,1,2", f"tracking.uri={server.uri}") == 0  # there is a later one of its name
        assert re.search(r"^strides=4-2-2 +3 ", capsys.readouterr().out, re.M)
    alone = tmp_path / "alone"
    assert sweep(alone, SEEDS, f"tracking.uri={server.uri}") == 0
    assert "could not be asked for finished runs" in capsys.readouterr().out
    trained(alone, reference)


def test_a_results_folder_that_was_moved_goes_on(
    tmp_path: Path, template: Path, reference: list[Evidence], capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow's addresses of artifacts are absolute: after a move, what is there is read there, and what is new goes
    there."""
    old, new = use_store(tmp_path / "old", template), tmp_path / "new"
    assert sweep(old, "seed=0") == 0
    old.rename(new)
    _artifact_repos_cache.clear()  # which MLflow keeps as long as a process lives
    assert sweep(new, SEEDS) == 0
    assert not old.exists()
    trained(new, reference)
    sweeps = find_sweep(resolve_store(TrackingConfig(), results_dir=new), "test")
    assert [run.artifact("config.json").is_relative_to(new) for run in sweeps.runs] == [True, True]
    expected = {work.identity.signature: dict(evidence(work.folder).points) for work in agenda_of(new, SEEDS).specs}
    assert stored(new, [work.folder for work in agenda_of(new, SEEDS).specs]) == expected
    shutil.copytree(new, tmp_path / "copy")
    copied = find_sweep(resolve_store(TrackingConfig(), results_dir=tmp_path / "copy"), "test")
    assert all(run.artifact("config.json").is_relative_to(tmp_path / "copy") for run in copied.runs)

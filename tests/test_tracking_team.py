"""A team's server as `stridelab server` starts it, with a real PostgreSQL behind it: who may come in, eight writers at
once, a local store that is moved there. Skipped where there is no PostgreSQL (Debian: apt-get install postgresql) or
no driver (pip install 'stridelab[server]')."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.error import HTTPError

import pytest

from stridelab import names
from stridelab.cli.runs import main as runs
from stridelab.cli.server import main as serve
from stridelab.system.files import read_json
from stridelab.tracking.find import find_run, find_sweep
from stridelab.tracking.mlflow_reader import Reader
from stridelab.tracking.move import move
from stridelab.tracking.run import RunIdentity, open_run
from stridelab.tracking.store import Store, connect
from tracking_stores import FLUSH_S, Team, free_port, identity, local_store, mirror_of, new_cluster, send

pytest.importorskip("psycopg2", reason="there is no driver: pip install 'stridelab[server]'")
PASSWORD = "of the team, and long"
REPOSITORY = Path(__file__).parent.parent
SWEEP = RunIdentity("5eed", "s1", role="sweep", sweep="s1")
STEPS = 30


class GuardedTeam(Team):
    def status(self, *, host: str = "", password: str = "") -> int:
        request = urllib.request.Request(f"{self.uri}/api/2.0/mlflow/experiments/search?max_results=1")
        if password:
            request.add_header("Authorization", f"Basic {base64.b64encode(f'admin:{password}'.encode()).decode()}")
        if host:
            request.add_header("Host", host)
        try:
            return int(urllib.request.urlopen(request, timeout=20).status)
        except HTTPError as error:
            return error.code


@pytest.fixture(scope="module")
def team() -> Iterator[GuardedTeam]:
    with new_cluster() as folder:
        (folder / "password").write_text(f"{PASSWORD}\n")
        (folder / "password").chmod(0o600)
        words = ["auth=basic", "hosts=lab.example.org", f"password_file={folder / 'password'}"]
        made = GuardedTeam(folder / "server", free_port(), words)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
            patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
            try:
                made.start()
                yield made
            finally:
                made.stop()


def test_the_server_asks_for_a_password_that_it_keeps_nowhere(team: GuardedTeam) -> None:
    assert (team.status(), team.status(password="another, and long"), team.status(password=PASSWORD)) == (401, 401, 200)
    assert team.status(host="lab.example.org", password=PASSWORD) == 200
    assert team.status(host="elsewhere.example.org", password=PASSWORD) == 403
    files = [path for path in team.folder.rglob("*") if path.is_file()]
    assert len(files) > 100
    assert not [path for path in files if PASSWORD.encode() in path.read_bytes()]
    private = [team.folder / name for name in ("postgres", "secret", "users.ini")]
    assert [path.stat().st_mode & 0o077 for path in private] == [0, 0, 0]
    command = Path(f"/proc/{team.process.pid if team.process else 0}/cmdline").read_bytes()
    assert PASSWORD.encode() not in command


def test_eight_writers_at_once_lose_nothing_and_store_nothing_twice(team: GuardedTeam, tmp_path: Path) -> None:
    store = Store(team.uri, "", "eight")
    folders = [tmp_path / "runs" / f"{number:02}" for number in range(16)]
    with ExitStack() as stack:
        mirrors = [stack.enter_context(mirror_of(store)) for _ in range(8)]
        for number, folder in enumerate(folders):
            mirrors[number % 8].watch(folder)  # a run each while they are recorded,
            mirrors[(number + 1) % 8].watch(folder)  # and every run is followed by two
        for number, folder in enumerate(folders):
            with open_run(folder, identity(number)) as run:
                for step in range(STEPS):
                    run.metrics({"val/acc": step / number if number else 0.0, "val/loss": 1.0}, step=step)
                (run.folder / "notes.txt").write_text(f"of {number}")
                run.artifact(run.folder / "notes.txt")
        assert all(mirror.flush(FLUSH_S) for mirror in mirrors)
    experiment = "experiment_id = (SELECT experiment_id FROM experiments WHERE name = 'eight')"
    where = f"run_uuid IN (SELECT run_uuid FROM runs WHERE {experiment})"
    found = team.rows(f"SELECT value FROM tags WHERE key = '{names.UID}' AND {where}")
    assert sorted(found) == sorted(read_json(folder / "run.json")["uid"] for folder in folders)
    assert team.rows(f"SELECT count(*) FROM metrics WHERE {where}") == [str(16 * STEPS * 2)]
    assert team.rows(f"SELECT count(DISTINCT (run_uuid, key, step)) FROM metrics WHERE {where}") == [
        str(16 * STEPS * 2)
    ]
    assert team.rows(f"SELECT DISTINCT status FROM runs WHERE {experiment}") == ["FINISHED"]
    one = find_run(store, identity(7).signature)
    assert one.history("val/acc") == [(step, step / 7) for step in range(STEPS)]
    assert one.artifact("notes.txt").read_text() == "of 7"


def record_sweep(results: Path, store: Store, count: int) -> list[Path]:
    """In the folders and in the local store; the sweep's first."""
    folders = [results / "sweeps" / "s1", *(results / "runs" / identity(number).signature for number in range(count))]
    with open_run(folders[0], SWEEP) as parent:
        parent.members([identity(number).signature for number in range(count)])
        for number in range(count):
            with open_run(folders[number + 1], identity(number, parent="5eed", sweep="s1")) as run:
                for step in range(STEPS):
                    run.metrics({"val/acc": step * 0.1 + number, "odd": float("nan")}, step=step)
                run.params({"seed": number})
                (run.folder / "large.bin").write_bytes(os.urandom(100_000))
                run.artifact(run.folder / "large.bin")
    send(store, *folders)
    with open_run(folders[0], SWEEP) as parent:
        sweep = find_sweep(store, "s1")
        parent.tags({names.NOTE: f"[runs](/#/experiments/{sweep.run.experiment_id}/runs/{sweep.run_id})"})
    send(store, *folders)
    return folders


def test_a_local_store_is_moved_whole_though_it_is_cut_off_and_the_server_is_tampered_with(
    team: GuardedTeam, template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results, experiment = tmp_path / "results", "moved"
    local = local_store(results, template)
    local = Store(local.uri, local.artifact_root, experiment)
    folders = record_sweep(results, local, count=8)
    uids = sorted(read_json(folder / "run.json")["uid"] for folder in folders)
    records = {run.tags[names.SIGNATURE]: run for run in Reader(local).search("")}
    client = connect(local)
    client.set_tag(records[identity(2).signature].run_id, "reviewed by", "a person")
    client.delete_run(records[identity(3).signature].run_id)
    shutil.rmtree(folders[5])
    words = [f"paths.results_dir={results}", f"tracking.experiment={experiment}", f"to={team.uri}"]

    child = subprocess.Popen([sys.executable, "scripts/runs.py", "sync", *words], cwd=REPOSITORY)
    of_it = f"SELECT experiment_id FROM experiments WHERE name = '{experiment}'"
    while len(team.rows(f"SELECT 1 FROM runs WHERE experiment_id IN ({of_it})")) < 3:
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    there = f"run_uuid IN (SELECT run_uuid FROM runs WHERE experiment_id IN ({of_it}))"
    assert len(team.rows(f"SELECT 1 FROM runs WHERE experiment_id IN ({of_it})")) < 8

    runs(["sync", *words])
    assert "8 runs are in" in (told := capsys.readouterr().out)
    assert "left out: 1 run in the trash of the local store" in told
    moved = sorted(uid for uid in uids if uid != records[identity(3).signature].tags[names.UID])
    assert sorted(team.rows(f"SELECT value FROM tags WHERE key = '{names.UID}' AND {there}")) == moved
    points = f"SELECT count(*), count(DISTINCT (run_uuid, key, step)) FROM metrics WHERE {there}"
    assert team.rows(points) == [f"{7 * 2 * STEPS}|{7 * 2 * STEPS}"]
    target = Store(team.uri, "", experiment)
    sweep = find_sweep(target, "s1")
    by_signature = {run.tags[names.SIGNATURE]: run for run in sweep.runs}
    assert by_signature[identity(2).signature].tags["reviewed by"] == "a person"
    assert sweep.note == f"[runs](/#/experiments/{sweep.run.experiment_id}/runs/{sweep.run_id})", "its links lead here"
    assert (
        by_signature[identity(4).signature].artifact("large.bin").read_bytes()
        == (folders[5] / "large.bin").read_bytes()
    ), "its folder was made again from the local store"
    assert not [run for run in by_signature.values() if run.tags.get(names.PARENT_RUN) != sweep.run_id]

    before = team.rows(f"SELECT max(timestamp), count(*) FROM metrics WHERE {there}")
    assert move(local, results, target).complete, "moved once more, nothing is sent"
    assert team.rows(f"SELECT max(timestamp), count(*) FROM metrics WHERE {there}") == before

    victim = by_signature[identity(6).signature].run_id
    team.rows(f"UPDATE metrics SET value = 7 WHERE run_uuid = '{victim}' AND key = 'val/acc' AND step = 3")
    (folders[7] / "mirror.json").unlink()
    done = move(local, results, target)
    assert not done.complete
    assert [said for said in done.said if "the other store has other values of val/acc" in said]


REFUSED = {
    "an address that nobody answers": (["to=http://127.0.0.1:9"], r"127\.0\.0\.1:9 cannot be read"),
    "no address": (["to=server"], r"to= is not the address of a store"),
    "a server to a server": (["to=http://127.0.0.1:9", "tracking.uri=http://127.0.0.1:8"], "only a SQLite store"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_store_is_not_moved_anywhere_else(
    case: str, tmp_path: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local_store(tmp_path / "results", template)
    words, said = REFUSED[case]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit):
        runs(["sync", f"paths.results_dir={tmp_path / 'results'}", *words])
    error = capsys.readouterr().err
    assert re.search(said, error), error
    assert "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before


NO_SERVER = {
    "no password": (["auth=basic"], "auth=basic needs a password of 12 characters"),
    "a password that others read": (["auth=basic", "password_file={open}"], "chmod 600"),
    "no such file": (["auth=basic", "password_file=/nowhere/x"], "there is no such file"),
    "another login": (["auth=ldap"], "choose one of none, basic"),
    "a database that is none": (["dsn=mysql+pymysql://me@h/db"], "must be the address of a PostgreSQL database"),
    "no such port": (["tracking.port=70000"], "must be from 1 to 65535"),
}


@pytest.mark.parametrize("case", NO_SERVER)
def test_a_server_that_cannot_be_is_refused_before_anything_is_created(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "open").write_text("long enough, but open")
    (tmp_path / "open").chmod(0o644)
    words, said = NO_SERVER[case]
    with pytest.raises(SystemExit):
        serve([f"folder={tmp_path / 'server'}", *(word.format(open=tmp_path / "open") for word in words)])
    assert said in capsys.readouterr().err
    assert not (tmp_path / "server").exists()


def test_a_database_that_does_not_answer_is_said_and_nothing_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"folder={tmp_path / 'server'}", f"tracking.port={free_port()}"]
    with pytest.raises(SystemExit):
        serve([*words, "dsn=postgresql+psycopg2://me:secret-word@127.0.0.1:9/lab"])
    error = capsys.readouterr().err
    assert "Connection refused" in error
    assert "secret-word" not in error
    assert not (tmp_path / "server").exists()

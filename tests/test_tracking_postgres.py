"""A real PostgreSQL behind the store: awkward passwords reach it and nothing else; it may refuse, die and come back.
Skipped where there is no PostgreSQL or no driver (`apt-get install postgresql`, `pip install 'stridelab[server]'`)."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from stridelab.system.postgres import Postgres
from stridelab.tracking.find import find_run
from stridelab.tracking.run import open_run
from stridelab.tracking.settings import TrackingConfig, redact_values, redact_word
from stridelab.tracking.store import Store, resolve_store
from stridelab.tracking.sync import sync
from tracking_stores import FLUSH_S, free_port, identity, mirror_of, new_cluster

pytestmark = pytest.mark.faults
pytest.importorskip("psycopg2", reason="there is no driver: pip install 'stridelab[server]'")
PASSWORDS = ["plain-Words", "pa/ss", "p@ss:w#rd?", "pa ss", 'it\'s "quoted"', "100%25", "caf\u00e9\\n"]


class Cluster(Postgres):
    def kill(self) -> None:
        self.stop(signal.SIGKILL)
        (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def password_uri(self, password: str, database: str = "lab") -> str:
        return f"postgresql+psycopg2://lab:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with new_cluster() as folder:
        made = Cluster(folder / "postgres", port=free_port(), settings={"fsync": "off"})
        try:
            made.start()
            made.execute("CREATE ROLE lab LOGIN PASSWORD 'first'", "CREATE DATABASE lab OWNER lab")
            yield made
        finally:
            made.stop()


def record(folder: Path, number: int) -> None:
    with open_run(folder, identity(number)) as run:
        for step in range(5):
            run.metrics({"test/acc": step / 10}, step=step)


def store_of(cluster: Cluster, results: Path, password: str, database: str = "lab") -> Store:
    """As a configuration gives it: the process has then been told the password."""
    return resolve_store(TrackingConfig(cluster.password_uri(password, database)), results_dir=results)


@pytest.mark.parametrize("number", range(len(PASSWORDS)))
def test_a_password_reaches_the_database_and_nothing_else(
    cluster: Cluster, tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    password = PASSWORDS[number]
    literal = password.replace("'", "''")
    cluster.execute("SET standard_conforming_strings = on", f"ALTER ROLE lab PASSWORD '{literal}'")
    store = store_of(cluster, tmp_path, password)
    record(tmp_path / "runs" / "a", 100 + number)
    with caplog.at_level(logging.DEBUG):
        assert sync(store, tmp_path, timeout_s=FLUSH_S).complete
    found = find_run(store, identity(100 + number).signature)
    assert found.history("test/acc") == [(step, step / 10) for step in range(5)]
    wrong = store_of(cluster, tmp_path, f"{password}x", "lab")
    record(tmp_path / "runs" / "b", 200 + number)
    with caplog.at_level(logging.DEBUG):
        done = sync(wrong, tmp_path, timeout_s=FLUSH_S)
    assert not done.complete
    assert "the database refuses this name and password" in " ".join(done.said)
    shown = f"{redact_word(f'tracking.uri={store.uri}')} {redact_values({'tracking': {'uri': store.uri}})}"
    files = b"".join(path.read_bytes() for path in (tmp_path / "runs").rglob("*") if path.is_file())
    for spelled in (password, quote(password, safe="")):
        assert spelled not in caplog.text + str(done) + shown
        assert spelled.encode() not in files


def test_a_database_that_is_not_there_is_said_at_once(cluster: Cluster, tmp_path: Path) -> None:
    cluster.execute("ALTER ROLE lab PASSWORD 'first'")
    record(tmp_path / "runs" / "a", 1)
    done = sync(store_of(cluster, tmp_path, "first", "nowhere"), tmp_path, timeout_s=FLUSH_S)
    assert not done.complete
    assert "create the database" in " ".join(done.said)


def test_a_database_that_dies_and_comes_back_has_everything_once(cluster: Cluster, tmp_path: Path) -> None:
    cluster.execute("ALTER ROLE lab PASSWORD 'first'")
    store, folder = store_of(cluster, tmp_path, "first"), tmp_path / "runs" / "a"
    with mirror_of(store) as mirror:
        mirror.watch(folder)
        with open_run(folder, identity(300)) as run:
            run.metrics({"test/acc": 0.1}, step=1)
            assert mirror.flush(FLUSH_S)
            cluster.kill()
            run.metrics({"test/acc": 0.2}, step=2)
            assert not mirror.flush(1.0)
            cluster.start()
            run.metrics({"test/acc": 0.3}, step=3)
        assert mirror.flush(FLUSH_S)
    found = find_run(store, identity(300).signature)
    assert (found.status, found.history("test/acc")) == ("FINISHED", [(1, 0.1), (2, 0.2), (3, 0.3)])

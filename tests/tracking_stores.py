"""Real stores for the tracking tests: SQLite files copied from one template, and an MLflow server of our own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import mkdtemp
from threading import Barrier
from typing import Any
from urllib.parse import quote

import psutil
import pytest

from stridelab.system.files import write_json_atomic
from stridelab.system.postgres import program
from stridelab.tracking import journal_cursor, server
from stridelab.tracking.mlflow_reader import RunRecord
from stridelab.tracking.run import RunIdentity, open_run
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.status import RESULT
from stridelab.tracking.store import Store, apply_settings, create_sqlite, resolve_store
from stridelab.tracking.sync import Mirror
from stridelab.training import Result

REPOSITORY = Path(__file__).parent.parent
FLUSH_S = 600.0
"""Longer than a busy machine needs; never waited for in full."""


@dataclass(frozen=True)
class Spec:
    name: str = "fashion_mnist_mini"
    digest: str = "0123456789abcdef" * 4
    source: str = "somewhere"
    licence: str = "MIT"


def images_of(run: RunRecord) -> list[str]:
    return [path for path in run.artifacts() if path.startswith("images/")]


def make_template(tests: Path) -> Path:
    """An empty store to copy, made once for all tests; `tests` is their common folder."""
    apply_settings()
    create_sqlite(tests / "template.db", artifact_root=str(tests / "artifacts"))
    return tests / "template.db"


def local_store(results: Path, template: Path) -> Store:
    """A store under `results`, initialised by copying."""
    store = resolve_store(TrackingConfig(), results_dir=results)
    assert store.database is not None
    results.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template, store.database)
    return store


def mirror_of(store: Store) -> Mirror:
    return Mirror(store)


def identity(number: int = 1, **changes: Any) -> RunIdentity:
    return RunIdentity(**({"signature": f"{number:016x}", "name": f"strides=1-{number} seed=0"} | changes))


def send(store: Store, *folders: Path) -> None:
    with mirror_of(store) as mirror:
        for folder in folders:
            mirror.watch(folder)
        assert mirror.flush(FLUSH_S)


def rows(store: Store, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Straight from the database, past all of our reading code."""
    assert store.database is not None
    with closing(sqlite3.connect(store.database, timeout=20)) as database:
        return database.execute(query, values).fetchall()


def stored_points(store: Store, run_id: str) -> list[tuple[str, int, float]]:
    """(metric, step, value), one for every row there is."""
    query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step"
    return [(key, step, value) for key, step, value in rows(store, query, run_id)]


def mirror_slowly(store: Store, folder: Path, steps: int) -> None:
    """In a child: record a run and send it in many small pieces."""
    journal_cursor.BLOCK_BYTES = 2000
    with mirror_of(store) as mirror, open_run(folder, identity()) as run:
        mirror.watch(folder)
        for step in range(steps):
            run.metrics({"train/loss": 1 / (step + 1), "val/acc": step / 10}, step=step)
        assert mirror.flush(FLUSH_S)


def open_together(results: Path, number: int, start: Barrier) -> None:
    """In a child: begin to use a store that is not there yet, when all others do."""
    start.wait()
    with mirror_of(resolve_store(TrackingConfig(), results_dir=results)) as mirror:
        folder = results / "runs" / str(number)
        mirror.watch(folder)
        with open_run(folder, identity(number)) as run:
            run.metrics({"a": float(number)}, step=0)
        assert mirror.flush(FLUSH_S)


@dataclass
class Server:
    """`mlflow server` on 127.0.0.1, in a process group of its own."""

    folder: Path
    port: int
    password: str = ""
    """Of the user `admin`; empty: nobody is asked for one."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def uri_with(self, password: str) -> str:
        return f"http://admin:{quote(password, safe='')}@127.0.0.1:{self.port}"

    def start(self) -> None:
        database = f"sqlite:///{self.folder / 'mlflow.db'}"
        command = server.command(database, self.folder / "artifacts", port=self.port, users=bool(self.password))
        environment: dict[str, str] = {}
        if self.password:
            users = f"sqlite:///{self.folder / 'users.db'}"
            environment = server.users_environment(self.folder, password=self.password, database=users)
        self.process = server.start(command, folder=self.folder, environment=environment)

    def wait_until_up(self) -> None:
        assert self.process is not None
        server.wait_until_up(self.process, port=self.port, folder=self.folder)

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()
        self.process = None

    def store(self, experiment: str) -> Store:
        return Store(self.uri, "", experiment)

    def database(self) -> Store:
        """For looking at what the server has stored."""
        return Store(f"sqlite:///{self.folder / 'mlflow.db'}", "", "")


@contextmanager
def running_server(folder: Path, template: Path, *, password: str = "") -> Iterator[Server]:
    folder.mkdir(exist_ok=True)
    shutil.copyfile(template, folder / "mlflow.db")
    running = Server(folder, free_port(), password)
    running.start()
    try:
        running.wait_until_up()
        yield running
    finally:
        if running.process is not None:
            running.kill()


@dataclass
class Team:
    """`stridelab server` with a PostgreSQL of its own, in a folder of `new_cluster`."""

    folder: Path
    port: int
    words: Sequence[str] = ()
    """Further ones of its command."""
    process: subprocess.Popen[str] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = [f"folder={self.folder}", f"tracking.port={self.port}", *self.words]
        command = [sys.executable, "scripts/server.py", *words]
        self.process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.uri in self.process.stdout.readline()

    def stop(self) -> None:
        if self.process is not None:
            assert self.process.stdout is not None
            self.process.terminate()
            self.process.stdout.close()
            assert self.process.wait(60) == 0

    def kill(self) -> None:
        """All of it at once, as when its machine goes: the command, MLflow's processes, the database's."""
        assert self.process is not None
        assert self.process.stdout is not None
        socket, command = self.socket, psutil.Process(self.process.pid)
        processes = [command, *command.children(recursive=True)]
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.stdout.close()
        self.process.wait()
        psutil.wait_procs(processes)
        shutil.rmtree(socket)
        self.process = None

    @property
    def socket(self) -> Path:
        return Path((self.folder / "postgres" / "postmaster.pid").read_text().splitlines()[4])

    def rows(self, query: str) -> list[str]:
        """Straight from PostgreSQL, past MLflow and all of our reading code."""
        command = ["psql", "--host", str(self.socket), "-U", "postgres", "-d", "mlflow", "-qtAc", query]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout.splitlines()


@contextmanager
def new_cluster() -> Iterator[Path]:
    """A folder that the user of PostgreSQL may enter, as pytest's are not; skipped where there is no PostgreSQL."""
    try:
        program("initdb")
    except ValueError as error:
        pytest.skip(str(error))
    folder = Path(mkdtemp(prefix="stridelab-team-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def leave_result(folder: Path) -> None:
    """What a finished run leaves, with nothing measured."""
    write_json_atomic(folder / RESULT, asdict(Result({}, "0" * 64, "1" * 64, "2" * 64)))

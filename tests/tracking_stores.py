"""Real stores for the tracking tests: SQLite files copied from one template, and an MLflow server of our own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Barrier
from typing import Any
from urllib.parse import quote

from stridelab.system.files import write_json_atomic
from stridelab.tracking import journal_cursor
from stridelab.tracking.run import RunIdentity, open_run
from stridelab.tracking.settings import TrackingConfig
from stridelab.tracking.status import RESULT
from stridelab.tracking.store import SETTINGS, Store, apply_settings, create_sqlite, resolve_store
from stridelab.tracking.sync import Mirror
from stridelab.training import Result

FLUSH_S = 600.0
"""Longer than a busy machine needs; never waited for in full."""


@dataclass(frozen=True)
class Spec:
    name: str = "fashion_mnist_mini"
    digest: str = "0123456789abcdef" * 4
    source: str = "somewhere"
    licence: str = "MIT"


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
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder / 'mlflow.db'}"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        variables = os.environ | SETTINGS
        if self.password:
            command += ["--app-name", "basic-auth"]
            users = self.folder / "auth.ini"
            users.write_text(
                f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{self.folder / 'users.db'}\n"
                "admin_username = admin\nauthorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            )
            variables |= {"MLFLOW_AUTH_CONFIG_PATH": str(users), "MLFLOW_AUTH_ADMIN_PASSWORD": self.password}
            variables |= {"MLFLOW_FLASK_SERVER_SECRET_KEY": "of a test"}
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)

    def wait_until_up(self) -> None:
        for _ in range(6000):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                assert self.process is not None
                assert self.process.poll() is None, "the server died"
                time.sleep(0.1)
        raise TimeoutError(self.uri)

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
    server = Server(folder, free_port(), password)
    server.start()
    try:
        server.wait_until_up()
        yield server
    finally:
        if server.process is not None:
            server.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def leave_result(folder: Path) -> None:
    """What a finished run leaves, with nothing measured."""
    write_json_atomic(folder / RESULT, asdict(Result({}, "0" * 64, "1" * 64, "2" * 64, 0, 0.0)))

"""Where the MLflow store is, how it comes into being, and the one place where MLflow is configured."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import warnings
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlparse

from stridelab import names
from stridelab.system.files import PARTIAL, replacement
from stridelab.system.locks import locked

from .settings import TrackingConfig

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
LONGEST_SQLITE = 504
"""Bytes of a path: SQLite's MAX_PATHNAME of 512 less `-journal`."""

DESCRIPTION = """\
Variants of networks that differ only in what a sweep varies, such as stride and padding: the same initial weights and
the same batches for each seed. A sweep is a run with its runs below it; its own page has the verdict, the table and the
report. *Views*, above the runs, holds each sweep grouped by variant."""
"""Of the experiment, on its page in MLflow."""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the mirror repeats, and looks before it creates anything again
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # errors come as exceptions; its log repeats them, with addresses
}
"""Environment that MLflow reads. What the user has set stays."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Store:
    uri: str
    artifact_root: str
    """Folder for artifacts; empty: the server keeps them."""
    experiment: str

    @property
    def database(self) -> Path | None:
        """The file of a SQLite store."""
        return sqlite_path(self.uri)

    @property
    def is_served(self) -> bool:
        """By an MLflow server."""
        return self.uri.startswith(("http://", "https://"))


def resolve_store(config: TrackingConfig, *, results_dir: Path) -> Store:
    """The store that the configuration means, with absolute paths. Touches nothing."""
    results = Path(results_dir).absolute()
    uri = config.uri or SQLITE + str(results / "mlflow.db")
    database = sqlite_path(uri)
    if database is not None:
        database = Path(os.path.normpath(database.absolute()))
        if {"%", "?"} & set(str(database)):
            raise ValueError(f"the path of a SQLite store cannot hold '%' or '?': {database}; choose another folder.")
        if (length := len(os.fsencode(database))) > LONGEST_SQLITE:
            raise ValueError(
                f"the path of a SQLite store has {LONGEST_SQLITE} bytes at most, and this one {length:,}: {database}; "
                "choose another folder."
            )
        if database.exists() and not database.is_file():  # SQLite would wait for a pipe
            raise ValueError(f"the SQLite store {database} is not a file; give the path of one, which may be new.")
        return Store(SQLITE + str(database), str(database.parent / "artifacts"), config.experiment)
    store = Store(uri.rstrip("/"), "", config.experiment)
    return store if store.is_served else replace(store, artifact_root=str(results / "artifacts"))


def sqlite_path(uri: str) -> Path | None:
    return Path(uri.removeprefix(SQLITE)) if uri.startswith(SQLITE) else None


def local_folder(uri: str) -> Path | None:
    """Of an artifact address on this machine."""
    parsed = urlparse(uri)
    if parsed.scheme in ("", "file"):
        return Path(unquote(parsed.path) if parsed.scheme else uri)
    return None


def apply_settings() -> None:
    """Before MLflow is first imported, in the caller's thread."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    # Raised while MLflow's own tables are set up on SQLAlchemy 2.1; nothing a user could do about it.
    warnings.filterwarnings("ignore", message="The ``noload`` loader strategy", category=DeprecationWarning)


def modules_for(store: Store) -> list[str]:
    """What MLflow takes a second or two to import when a store is first used; settings are applied."""
    apply_settings()
    return ["mlflow", *([] if store.database is None else ["mlflow.store.tracking.sqlalchemy_store"])]


def connect(store: Store, *, create: bool = True) -> MlflowClient:
    """A client; a SQLite store is checked first, because MLflow would try for 100 s to open a bad one. With
    `create=False` ValueError when there is no store yet."""
    apply_settings()
    from mlflow import MlflowClient

    let_go_of_replaced(store)
    if store.database is not None:
        if create:
            create_sqlite(store.database, artifact_root=store.artifact_root)
        elif not store.database.exists():
            raise ValueError(f"there is no store at {store.database}: nothing has been run with this results folder.")
        with opened(store.database, timeout_s=5) as database:
            database.execute("PRAGMA schema_version").fetchone()
        _opened[store.uri] = file_identity(store)
    elif not store.is_served:
        reach(store.uri)
    return MlflowClient(store.uri)


def opened(database: Path, *, timeout_s: float, mode: str = "rw") -> closing[sqlite3.Connection]:
    """A SQLite file that is there; none is made."""
    return closing(sqlite3.connect(f"file:{quote(str(database))}?mode={mode}", uri=True, timeout=timeout_s))


def reach(uri: str) -> None:
    """Whatever SQLAlchemy raises where a driver is absent, a password wrong, or nobody answers: at once, where MLflow
    would try for 100 s."""
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    with engine.connect():
        pass
    engine.dispose()


def file_identity(store: Store) -> tuple[int, int] | None:
    """Device and inode of a SQLite store's file, which are others when another file took its place."""
    try:
        stat = store.database.stat() if store.database else None
    except FileNotFoundError:
        return None
    return (stat.st_dev, stat.st_ino) if stat else None


_opened: dict[str, tuple[int, int] | None] = {}
"""Address of a SQLite store -> the file that MLflow has opened for it in this process."""


def let_go_of_replaced(store: Store) -> None:
    """MLflow keeps its connections as long as the process lives, and would go on writing to a file that was moved away
    or replaced: close them then."""
    if _opened.get(store.uri) in (None, file_identity(store)):
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    known: dict[str, Any] = SqlAlchemyStore._engine_map
    if (engine := known.get(store.uri)) is not None:
        engine.dispose()


def create_sqlite(path: Path, *, artifact_root: str) -> None:
    """Make a migrated database in WAL mode under another name, then rename: it is there whole or not at all,
    also when eight processes begin at once (MLflow's own start then loses seven) or one is killed halfway."""
    if _has_content(path):
        return
    import_module("mlflow")  # all of it before a part: a thread may be at it, and the two would meet halfway
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.with_name(f".{path.name}.lock")):
        if _has_content(path):
            return
        for left in path.parent.glob(f".{path.name}.*{PARTIAL}*"):
            left.unlink()
        for end in ("-wal", "-shm"):  # of a file that was moved away: they would be read into the new one
            path.with_name(path.name + end).unlink(missing_ok=True)
        with suppress(FileExistsError), replacement(path) as new:
            made: Any = SqlAlchemyStore
            made(SQLITE + str(new), artifact_root).engine.dispose()
            with closing(sqlite3.connect(new)) as database:
                database.execute("PRAGMA journal_mode=WAL")
            if _has_content(path):  # somebody has put one there meanwhile
                raise FileExistsError(path)


def find_experiment(client: MlflowClient, name: str) -> str | None:
    """Its id, or None when there is none or it was deleted."""
    experiment = client.get_experiment_by_name(name)
    return experiment.experiment_id if experiment and experiment.lifecycle_stage == "active" else None


def ensure_experiment(client: MlflowClient, store: Store) -> str:
    """The experiment's id. One that was deleted in the UI comes back, with its runs."""
    from mlflow.exceptions import MlflowException

    location = Path(store.artifact_root).as_uri() if store.artifact_root else None
    experiment = client.get_experiment_by_name(store.experiment)
    if experiment is None:
        try:
            return client.create_experiment(store.experiment, location, tags={names.NOTE: DESCRIPTION})
        except MlflowException as error:
            experiment = client.get_experiment_by_name(store.experiment)
            if experiment is None or error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    if experiment.lifecycle_stage != "active":
        log.warning("experiment %s had been deleted in the store; it is restored.", store.experiment)
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


REMEDIES = (
    (("No module named 'psycopg", "No module named 'pymysql"), "install the driver: pip install psycopg2-binary"),
    (("not a database", "malformed", "disk image"), "move the file away: a new one is filled from the journals"),
    (("401", "403", "Unauthorized", "Forbidden"), "the server refuses this name and password; check tracking.uri"),
    (("password authentication failed", "Access denied"), "the database refuses this name and password"),
    (('" does not exist', "Unknown database"), "create the database, and let this name write to it"),
    (("readonly database", "read-only", "unable to open database", "Permission denied"), "it cannot be written to"),
    (("out-of-date database schema", "Detected out-of-date"), "run `mlflow db upgrade` on it, or move it away"),
)
"""Words of errors that waiting does not mend, and what does."""


def remedy(error: BaseException, store: Store) -> str:
    """What a person can do about a store that waiting does not mend; empty when it may."""
    text = f"{type(error).__name__}: {error}"
    for words, advice in REMEDIES:
        patterns = (rf"\b{word}\b" if word.isdecimal() else re.escape(word) for word in words)
        if (store.is_served or words[0] != "401") and re.search("|".join(patterns), text):
            return advice
    return ""


def analyze(store: Store) -> None:
    """Let SQLite count its rows: from ten runs on, MLflow reads a metric's history about 30 times faster."""
    if store.database is None or not store.database.exists():
        return
    try:
        with closing(sqlite3.connect(store.database, timeout=5)) as database:
            database.execute("ANALYZE")
    except sqlite3.Error as error:
        log.info("the store's statistics could not be refreshed: %s", error)


def _has_content(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except FileNotFoundError:
        return False

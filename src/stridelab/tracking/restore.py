"""Finished runs of the store whose folders are not here: found by tag, their folders made again."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from stridelab import names
from stridelab.system.files import sha256_of, write_json_atomic

from . import archive
from .archive import Limits
from .journal_cursor import POSITION, place_of
from .mlflow_reader import Reader, RunRecord
from .parcel import Parcel, attached_files, unpack
from .staging import scratch
from .status import RESULT, read_result
from .store import Store, apply_settings, opened

CONNECT_S, ANSWER_S, LOCKED_S = 5.0, 20.0, 2.0
"""Waited for a store to be there; for an answer of one that is; for a SQLite file that somebody has locked."""
MAX_SAID = 150
"""Characters of an error that are passed on."""

T = TypeVar("T")
Wanted = Collection[str]


class Recall:
    """Asks one store. A server is called in the background as soon as this is made, since MLflow takes a second to
    load; a SQLite file is first asked, in milliseconds, whether it knows of any such run."""

    def __init__(self, store: Store) -> None:
        self.store = store
        if store.database is None:
            self._call()

    def _call(self) -> None:
        apply_settings()
        self._loaded = in_background(partial(import_module, "mlflow"))
        self._reader = in_background(lambda: (self._loaded.result(), Reader(self.store))[1])

    def finished(self, wanted: Wanted, *, tag: str, code: str = "") -> dict[str, RunRecord]:
        """Value of `tag` -> the newest finished run that has it, trained by `code` (empty: by whatever). ValueError
        with the reason when the store does not answer in time."""
        if not wanted or (self.store.database is not None and not knows_any(self.store.database, tag, wanted)):
            return {}
        if self.store.database is not None:
            self._call()
        query = f"attributes.status = 'FINISHED' and tags.`{names.ROLE}` = 'run'"
        query += f" and tags.`{names.CODE}` = '{code}'" if code else ""
        answer(self._loaded, None)
        reader = answer(self._reader, CONNECT_S)
        return answer(in_background(lambda: newest(reader.search(query), wanted, tag)), ANSWER_S)


def in_background(work: Callable[[], T]) -> Future[T]:
    """Unlike a pool's, a thread that nobody waits for when the process ends."""
    future: Future[T] = Future()

    def begin() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # whatever a server may say
            future.set_exception(error)

    threading.Thread(target=begin, name="recall", daemon=True).start()
    return future


def answer(future: Future[T], timeout_s: float | None) -> T:
    try:
        return future.result(timeout_s)
    except TimeoutError:
        raise ValueError(f"it did not answer within {timeout_s:.0f} s") from None
    except Exception as error:
        raise ValueError(str(error).partition("\n")[0][:MAX_SAID]) from error


def knows_any(database: Path, tag: str, wanted: Wanted) -> bool:
    """Whether any run in a SQLite file has one of these values, without MLflow. ValueError when it cannot be read."""
    if not database.exists():
        return False
    query = "SELECT 1 FROM tags WHERE key = ? AND value IN (SELECT value FROM json_each(?)) LIMIT 1"
    try:
        with opened(database, timeout_s=LOCKED_S, mode="ro") as file:
            return file.execute(query, (tag, json.dumps(list(wanted)))).fetchone() is not None
    except sqlite3.Error as error:
        raise ValueError(str(error)) from error


def newest(records: list[RunRecord], wanted: Wanted, tag: str) -> dict[str, RunRecord]:
    """What came in an archive is no work of ours, and does not count."""
    found: dict[str, RunRecord] = {}
    for record in sorted(records, key=lambda record: record.start_ms, reverse=True):
        value = record.tags.get(tag, "")
        if value in wanted and names.IMPORTED not in record.tags and record.tags.get(names.ROLE) == "run":
            found.setdefault(value, record)
    return found


def download(run: RunRecord, into: Path) -> Parcel:
    """A run's folder from the store: its archive, and the large files, which are artifacts of their own; all go to
    `into`/files. ValueError when it is not whole, or another's."""
    into.mkdir(parents=True, exist_ok=True)
    where = f"run {run.name} ({run.run_id})"
    try:
        packed = run.artifact(names.FOLDER_ARCHIVE, into=into)
    except FileNotFoundError:
        raise ValueError(f"{where} has no artifact {names.FOLDER_ARCHIVE}") from None
    found: list[Parcel] = []
    archive.read(packed, limits=Limits(), into=into, take=lambda name, content: found.append(unpack(content, at=name)))
    if len(found) != 1 or (found[0].uid, found[0].signature) != (
        run.tags.get(names.UID),
        run.tags.get(names.SIGNATURE),
    ):
        raise ValueError(f"{names.FOLDER_ARCHIVE} of {where} is that of another run")
    (into / "files").mkdir(exist_ok=True)
    for path, sha in attached_files(found[0]).items():
        if not (into / "files" / sha).exists():
            _fetch(run, path, sha, into)
    missing = [sha for sha in found[0].files.values() if not (into / "files" / sha).exists()]
    if missing:
        raise ValueError(f"{names.FOLDER_ARCHIVE} of {where} lacks {len(missing)} files")
    return found[0]


def _fetch(run: RunRecord, path: str, sha: str, into: Path) -> None:
    try:
        source = run.artifact(path, into=into / "apart")
    except FileNotFoundError:
        raise ValueError(f"run {run.name} ({run.run_id}) has no artifact {path}") from None
    if sha256_of(source) != sha:
        raise ValueError(f"artifact {path} of run {run.name} ({run.run_id}) is not what it was")
    shutil.copyfile(source, into / "files" / sha)


def restore(run: RunRecord, folder: Path, *, store: Store) -> bool:
    """Make `folder` what it was when the run had finished: journal, artifacts, mark of completion. False when somebody
    has begun that folder meanwhile. ValueError when the store's copy is not whole."""
    return remake(run, folder, store=store, check=refuse_other_result)


def remake(
    run: RunRecord, folder: Path, *, store: Store, check: Callable[[Path, RunRecord], None] = lambda made, run: None
) -> bool:
    """As `restore`, of a run of any role and end. `check` is given the new folder before it takes its place."""
    with scratch(folder.parent.parent) as place:
        parcel, made = download(run, place), place / "run"
        size = parcel.write(made, place / "files", parent=None)
        check(made, run)
        position = {"run_id": run.run_id, "experiment_id": run.experiment_id, "offset": size}
        position |= {"uid": parcel.uid, "seq": len(parcel.records)}
        write_json_atomic(made / POSITION, {place_of(store): position})
        folder.parent.mkdir(exist_ok=True)
        with suppress(OSError):
            made.rename(folder)
            return True
    return False


def refuse_other_result(made: Path, run: RunRecord) -> None:
    result = read_result(made)
    if result is None:
        raise ValueError(f"{RESULT} of run {run.name} ({run.run_id}) is not that of a finished run")
    for tag in names.RESULT_DIGESTS:
        if result[tag.rpartition(".")[2]] != run.tags.get(tag):
            raise ValueError(f"{RESULT} of run {run.name} does not fit the run's tag {tag}")

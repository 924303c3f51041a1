"""Finished runs of the store whose folders are not here: found by tag, their folders made again."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

from stridelab import names
from stridelab.system.files import read_json, write_json_atomic
from stridelab.training.result import Result

from . import archive
from .archive import Limits
from .journal_cursor import POSITION, place_of
from .mlflow_reader import Reader, RunRecord
from .parcel import Parcel, unpack
from .staging import scratch
from .status import RESULT
from .store import Store, apply_settings

CONNECT_S, ANSWER_S, LOCKED_S = 5.0, 20.0, 2.0
"""Waited for a server to be there; for an answer of one that is; for a SQLite file that somebody has locked."""
IDS_A_QUERY = 500
MAX_SAID = 150
"""Characters of an error that are passed on."""

Wanted = Collection[str]


class Recall:
    """Asks one store. A server is called in the background as soon as this is made, since MLflow takes a second to
    load; a SQLite file is asked without MLflow, in milliseconds."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._questions: queue.SimpleQueue[tuple[Wanted, str, str]] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        if store.database is None:
            apply_settings()
            threading.Thread(target=self._call, name="recall", daemon=True).start()

    def finished(self, wanted: Wanted, *, tag: str, code: str = "") -> dict[str, RunRecord]:
        """Value of `tag` -> the newest finished run that has it, trained by `code` (empty: by whatever). ValueError
        with the reason when the store does not answer in time."""
        if not wanted:
            return {}
        if self.store.database is not None:
            ids = self._ask_sqlite(wanted, tag)
            return newest(self._records(list(ids)), wanted, tag)
        self._questions.put((wanted, tag, code))
        self._answer(None)  # MLflow is loaded
        self._answer(CONNECT_S)
        found: dict[str, RunRecord] = self._answer(ANSWER_S)
        return found

    def _answer(self, timeout_s: float | None) -> Any:
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise ValueError(f"it did not answer within {timeout_s:.0f} s") from None
        if isinstance(answer, Exception):
            raise ValueError(str(answer).partition("\n")[0][:MAX_SAID]) from answer
        return answer

    def _call(self) -> None:
        try:
            import mlflow

            self._answers.put(mlflow.__version__)
            reader = Reader(self.store)
            self._answers.put(True)
            wanted, tag, code = self._questions.get()
            query = f"attributes.status = 'FINISHED' and tags.`{names.ROLE}` = 'run'"
            if code:
                query += f" and tags.`{names.CODE}` = '{code}'"
            self._answers.put(newest(reader.search(query), wanted, tag))
        except Exception as error:  # whatever a server may say
            for _ in range(3):
                self._answers.put(error)

    def _ask_sqlite(self, wanted: Wanted, tag: str) -> Iterator[str]:
        """Ids of finished runs, without MLflow. A file that is not there, is empty or is damaged knows of none."""
        path, values = self.store.database, list(wanted)
        if path is None or not path.exists():
            return
        query = (
            "SELECT runs.run_uuid FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid JOIN experiments ON "
            "experiments.experiment_id = runs.experiment_id WHERE runs.status = 'FINISHED' AND "
            "runs.lifecycle_stage = 'active' AND experiments.name = ? AND tags.key = ? AND tags.value IN ({})"
        )
        try:
            with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=LOCKED_S)) as database:
                for start in range(0, len(values), IDS_A_QUERY):
                    part = values[start : start + IDS_A_QUERY]
                    marks = ",".join("?" * len(part))
                    rows = database.execute(query.format(marks), (self.store.experiment, tag, *part))
                    yield from (run_id for (run_id,) in rows)
        except sqlite3.Error as error:
            raise ValueError(str(error)) from error

    def _records(self, ids: list[str]) -> list[RunRecord]:
        if not ids:
            return []
        reader, found = Reader(self.store), []
        for start in range(0, len(ids), IDS_A_QUERY):
            listed = ",".join(f"'{one}'" for one in ids[start : start + IDS_A_QUERY])
            found += reader.search(f"attributes.run_id IN ({listed})")
        return found


def newest(records: list[RunRecord], wanted: Wanted, tag: str) -> dict[str, RunRecord]:
    """What came in an archive is no work of ours, and does not count."""
    found: dict[str, RunRecord] = {}
    for record in sorted(records, key=lambda record: record.start_ms, reverse=True):
        value = record.tags.get(tag, "")
        if value in wanted and names.IMPORTED not in record.tags and record.tags.get(names.ROLE) == "run":
            found.setdefault(value, record)
    return found


def download(run: RunRecord, into: Path) -> Parcel:
    """The folder's archive that is attached to a run in the store; its files go to `into`/files. One file, whatever
    the run holds. ValueError when it is not whole, or another's."""
    into.mkdir(parents=True, exist_ok=True)
    try:
        path = run.artifact(names.FOLDER_ARCHIVE, into=into)
    except FileNotFoundError:
        raise ValueError(f"run {run.name} ({run.run_id}) has no artifact {names.FOLDER_ARCHIVE}") from None
    found: list[Parcel] = []
    archive.read(path, limits=Limits(), into=into, take=lambda name, content: found.append(unpack(content, at=name)))
    uid = run.tags.get(names.UID)
    if len(found) != 1 or found[0].uid != uid or found[0].signature != run.tags.get(names.SIGNATURE):
        raise ValueError(f"{names.FOLDER_ARCHIVE} of run {run.name} ({run.run_id}) is that of another run")
    missing = [sha for sha in found[0].files.values() if not (into / "files" / sha).exists()]
    if missing:
        raise ValueError(f"{names.FOLDER_ARCHIVE} of run {run.name} ({run.run_id}) lacks {len(missing)} files")
    return found[0]


def restore(run: RunRecord, folder: Path, *, store: Store) -> bool:
    """Make `folder` what it was when the run had ended: journal, artifacts, mark of completion. False when somebody
    has begun that folder meanwhile. ValueError when the store's copy is not whole."""
    with scratch(folder.parent.parent) as place:
        parcel, made = download(run, place), place / "run"
        if RESULT not in parcel.files:
            raise ValueError(f"run {run.name} ({run.run_id}) has no {RESULT}")
        _check_result(place / "files" / parcel.files[RESULT], parcel)
        size = parcel.write(made, place / "files", parent=None)
        position = {"run_id": run.run_id, "experiment_id": run.experiment_id, "offset": size}
        position |= {"uid": parcel.uid, "seq": len(parcel.records)}
        write_json_atomic(made / POSITION, {place_of(store): position})
        folder.parent.mkdir(exist_ok=True)
        with suppress(OSError):
            made.rename(folder)
            return True
    return False


def _check_result(path: Path, run: Parcel) -> None:
    content = read_json(path)
    known = {field.name for field in fields(Result)}
    if not isinstance(content, dict) or set(content) != known or not isinstance(content["metrics"], dict):
        raise ValueError(f"{RESULT} of run {run.name} is not that of a finished run")
    for tag in (names.INIT_DIGEST, names.BATCH_ORDER_DIGEST, names.WEIGHTS_DIGEST):
        if content[tag.rpartition(".")[2]] != run.tags.get(tag):
            raise ValueError(f"{RESULT} of run {run.name} does not fit the run's tag {tag}")

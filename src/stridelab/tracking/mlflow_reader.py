"""What the store knows of a run: facts, metric histories, files."""

from __future__ import annotations

import shutil
import sqlite3
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Protocol

from stridelab import names

from . import mlflow_sqlite
from .mlflow_sqlite import Points, Row
from .relocate import follow_move
from .settings import redact
from .store import Store, apply_settings, connect, find_experiment, local_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000


class Source(Protocol):
    """Where a record's histories and files come from: the store, or the run's own folder."""

    def history(self, run_id: str, key: str) -> Points: ...
    def artifact(self, run: RunRecord, path: str, *, into: Path | None) -> Path: ...
    def files(self, run_id: str, folder: str) -> Iterator[str]: ...


@dataclass(frozen=True)
class RunRecord:
    run_id: str
    name: str
    status: str
    """FINISHED, FAILED, KILLED or RUNNING."""
    reason: str
    """Why it did not finish."""
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    """The value at the highest step."""
    start_ms: int
    end_ms: int | None
    experiment_id: str
    artifact_uri: str
    _reader: Source = field(repr=False, compare=False)

    def history(self, key: str) -> Points:
        """(step, value) in order of steps; empty for an unknown metric."""
        return self._reader.history(self.run_id, key)

    def artifact(self, path: str, *, into: Path | None = None) -> Path:
        """The file or folder itself when artifacts are on this machine, else a copy in the folder `into` (or
        one that lives as long as this record). FileNotFoundError when there is none."""
        return self._reader.artifact(self, path, into=into)

    def artifacts(self, folder: str = "") -> list[str]:
        """Paths of all files among its artifacts, or under one folder of them."""
        return sorted(self._reader.files(self.run_id, folder))


class Reader:
    """One experiment of one store. ValueError when it cannot be read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.group: Sequence[str] = ()
        """Runs whose histories are read together."""
        self._histories: dict[tuple[str, str], Points] = {}
        self._downloads: Path | None = None
        follow_move(store)
        try:
            self._tables = store.database if store.database is not None and store.database.exists() else None
            self.experiment_id = mlflow_sqlite.experiment_id(self._tables, store.experiment) if self._tables else None
        except sqlite3.Error:  # MLflow shall say what is wrong with it
            self._tables = None
        if self._tables is None:
            with self._readable():
                self.experiment_id = find_experiment(self.client, store.experiment)

    @cached_property
    def client(self) -> MlflowClient:
        apply_settings()
        with self._readable():
            return connect(self.store, create=False)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        apply_settings()
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, sqlite3.Error) as error:
            said = redact(str(error)).partition("\n")[0][:300]
            raise ValueError(f"the MLflow store {redact(self.store.uri)} cannot be read: {said}") from error

    def having(self, tags: Mapping[str, str], *, run_id: str = "", limit: int | None = None) -> list[RunRecord]:
        """Runs that have all of `tags`, the newest first."""
        if self.experiment_id is None:
            return []
        if self._tables is not None:
            try:
                found = mlflow_sqlite.runs(self._tables, self.experiment_id, tags=tags, run_id=run_id, limit=limit)
            except sqlite3.Error:
                self._tables = None
            else:
                return [self._record(row) for row in found]
        wanted = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
        wanted += [f"attributes.run_id = '{run_id}'"] if run_id else []
        return self.search(" and ".join(wanted), limit=limit)

    def search(self, wanted: str, *, limit: int | None = None) -> list[RunRecord]:
        """Runs that a filter of MLflow's takes, the newest first."""
        if self.experiment_id is None:
            return []
        found: list[RunRecord] = []
        token: str | None = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                wanted,
                max_results=min(limit or PAGE, PAGE),
                order_by=["attributes.start_time DESC"],
                page_token=token,
            )
            found += [self._record(row_of(run)) for run in page]
            token = page.token
            if not token or (limit and len(found) >= limit):
                return found

    def _record(self, row: Row) -> RunRecord:
        return RunRecord(
            run_id=row.run_id,
            name=row.name or row.run_id,
            status=row.status,
            reason=row.tags.get(names.REASON, ""),
            params=row.params,
            tags=row.tags,
            metrics={key: mlflow_sqlite.number(value) for key, value in sorted(row.metrics.items())},
            start_ms=row.start_ms,
            end_ms=row.end_ms,
            experiment_id=row.experiment_id,
            artifact_uri=row.artifact_uri,
            _reader=self,
        )

    def history(self, run_id: str, key: str) -> Points:
        if (run_id, key) not in self._histories:
            ids = self.group if run_id in self.group else [run_id]
            read = self._histories_by_sql(ids, key)
            if read is None:
                read = {run_id: self._history_by_client(run_id, key)}
            self._histories |= {(one, key): points for one, points in read.items()}
        return list(self._histories[run_id, key])

    def _history_by_client(self, run_id: str, key: str) -> Points:
        metrics = self.client.get_metric_history(run_id, key)
        metrics = sorted(metrics, key=lambda metric: (metric.step, metric.timestamp))
        return [(metric.step, mlflow_sqlite.number(metric.value)) for metric in metrics]

    def _histories_by_sql(self, ids: Sequence[str], key: str) -> dict[str, Points] | None:
        """A whole sweep in one query; None where that does not work."""
        if self._tables is None:
            return None
        try:
            return mlflow_sqlite.histories(self._tables, ids, key)
        except sqlite3.Error:
            return None

    def artifact(self, run: RunRecord, path: str, *, into: Path | None) -> Path:
        pure = PurePosixPath(path)
        if not pure.parts or pure.is_absolute() or ".." in pure.parts:
            raise ValueError(f"artifact {path!r} must be a path inside the run's artifacts.")
        root = local_folder(run.artifact_uri)
        found = root / path if root else self._download(run.run_id, path, into=into)
        inside = (root or found.parents[len(pure.parts) - 1]).resolve()
        if not found.exists() or not found.resolve().is_relative_to(inside):
            raise FileNotFoundError(f"run {run.name} has no artifact {path}")
        return found

    def _download(self, run_id: str, path: str, *, into: Path | None) -> Path:
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        if into is None:
            if self._downloads is None:
                self._downloads = Path(mkdtemp(prefix="stridelab-"))
                weakref.finalize(self, shutil.rmtree, self._downloads, ignore_errors=True)
            into = self._downloads / run_id
        into.mkdir(parents=True, exist_ok=True)
        try:
            return Path(
                download_artifacts(run_id=run_id, artifact_path=path, dst_path=str(into), tracking_uri=self.store.uri)
            )
        except (MlflowException, OSError) as error:
            raise FileNotFoundError(f"run {run_id} has no artifact {path}, or it cannot be had: {error}") from error

    def files(self, run_id: str, folder: str) -> Iterator[str]:
        for entry in self.client.list_artifacts(run_id, folder or None):
            if entry.is_dir:
                yield from self.files(run_id, entry.path)
            elif entry.path != names.FOLDER_ARCHIVE:  # whose content is all the others
                yield entry.path


def row_of(run: Run) -> Row:
    info, data = run.info, run.data
    return Row(
        run_id=info.run_id,
        name=info.run_name,
        status=info.status,
        start_ms=info.start_time,
        end_ms=info.end_time,
        experiment_id=info.experiment_id,
        artifact_uri=info.artifact_uri,
        params=data.params,
        tags=data.tags,
        metrics=data.metrics,
    )

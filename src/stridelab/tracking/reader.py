"""What the store knows of a run: facts, metric histories, files."""

from __future__ import annotations

import math
import shutil
import sqlite3
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlparse

from . import names
from .settings import redact
from .store import Store, connect, find_experiment

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000
IDS_A_QUERY = 500

Points = list[tuple[int, float]]


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
    _reader: Reader = field(repr=False, compare=False)

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
        from .store import apply_settings

        apply_settings()
        from mlflow.exceptions import MlflowException

        self.store = store
        self.group: Sequence[str] = ()
        """Runs whose histories are read together."""
        self._histories: dict[tuple[str, str], Points] = {}
        self._downloads: Path | None = None
        try:
            self.client: MlflowClient = connect(store, create=False)
            self.experiment_id = find_experiment(self.client, store.experiment)
        except (MlflowException, sqlite3.Error) as error:
            said = redact(str(error)).partition("\n")[0][:300]
            raise ValueError(f"the MLflow store {redact(store.uri)} cannot be read: {said}") from error

    def search(self, wanted: str, *, limit: int | None = None) -> list[RunRecord]:
        """The newest first."""
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
            found += [self._record(run) for run in page]
            token = page.token
            if not token or (limit and len(found) >= limit):
                return found

    def _record(self, run: Run) -> RunRecord:
        info, data = run.info, run.data
        return RunRecord(
            run_id=info.run_id,
            name=info.run_name or info.run_id,
            status=info.status,
            reason=data.tags.get(names.REASON, ""),
            params=data.params,
            tags=data.tags,
            metrics={key: _number(value) for key, value in sorted(data.metrics.items())},
            start_ms=info.start_time,
            end_ms=info.end_time,
            experiment_id=info.experiment_id,
            artifact_uri=info.artifact_uri,
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
        return [(metric.step, _number(metric.value)) for metric in metrics]

    def _histories_by_sql(self, ids: Sequence[str], key: str) -> dict[str, Points] | None:
        """A whole sweep in one query, from a SQLite file; None where that does not work."""
        if self.store.database is None:
            return None
        read: dict[str, Points] = {one: [] for one in ids}
        try:
            with closing(sqlite3.connect(f"file:{quote(str(self.store.database))}?mode=ro", uri=True)) as database:
                for start in range(0, len(ids), IDS_A_QUERY):
                    some = ids[start : start + IDS_A_QUERY]
                    # The + keeps SQLite from using the index on key, which would read every run's rows.
                    rows = database.execute(
                        "SELECT run_uuid, step, value, is_nan FROM metrics WHERE +key = ? AND run_uuid IN "
                        f"({', '.join('?' * len(some))}) ORDER BY step, timestamp",
                        [key, *some],
                    )
                    for run_id, step, value, is_nan in rows:
                        read[run_id].append((step, math.nan if is_nan else _number(value)))
        except sqlite3.Error:
            return None
        return read

    def artifact(self, run: RunRecord, path: str, *, into: Path | None) -> Path:
        pure = PurePosixPath(path)
        if not pure.parts or pure.is_absolute() or ".." in pure.parts:
            raise ValueError(f"artifact {path!r} must be a path inside the run's artifacts.")
        root = _local_folder(run.artifact_uri)
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
            else:
                yield entry.path


def _local_folder(uri: str) -> Path | None:
    parsed = urlparse(uri)
    if parsed.scheme in ("", "file"):
        return Path(unquote(parsed.path) if parsed.scheme else uri)
    return None


def _number(value: float) -> float:
    """MLflow keeps infinities as the largest float."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value

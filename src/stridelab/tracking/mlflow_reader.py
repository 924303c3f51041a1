"""What the store knows of a run: facts, metric histories, files."""

from __future__ import annotations

import math
import shutil
import sqlite3
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Protocol

from stridelab import names

from .relocate import follow_move
from .settings import redact
from .store import Store, apply_settings, connect, find_experiment, local_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000

Points = list[tuple[int, float]]


class RecordSource(Protocol):
    """Where a record's histories and files come from: the store, or the run's own folder."""

    def history(self, run_id: str, key: str) -> Points: ...
    def artifact(self, run: RunRecord, path: str, *, into: Path | None) -> Path: ...
    def files(self, run_id: str) -> Iterator[str]: ...


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
    _reader: RecordSource = field(repr=False, compare=False)

    @property
    def is_finished(self) -> bool:
        return self.status == "FINISHED"

    @property
    def variant(self) -> str:
        return self.tags.get(names.VARIANT) or self.name

    def history(self, key: str) -> Points:
        """(step, value) in order of steps; empty for an unknown metric."""
        return self._reader.history(self.run_id, key)

    def artifact(self, path: str, *, into: Path | None = None) -> Path:
        """The file or folder itself when artifacts are on this machine, else a copy in the folder `into` (or
        one that lives as long as this record). FileNotFoundError when there is none."""
        parts = PurePosixPath(path).parts
        if not parts or parts[0] == "/" or ".." in parts:
            raise ValueError(f"artifact {path!r} must be a path inside the run's artifacts.")
        return self._reader.artifact(self, path, into=into)

    def artifacts(self) -> list[str]:
        """Paths of all files among its artifacts."""
        return sorted(self._reader.files(self.run_id))


class Reader:
    """One experiment of one store. ValueError when it cannot be read."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._histories: dict[tuple[str, str], Points] = {}
        apply_settings()
        with self._readable():
            self.client: MlflowClient = connect(store, create=False)
            follow_move(store)
            self.experiment_id = find_experiment(self.client, store.experiment)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, sqlite3.Error) as error:
            said = redact(str(error)).partition("\n")[0][:300]
            raise ValueError(f"the MLflow store {redact(self.store.uri)} cannot be read: {said}") from error

    def having(self, tags: Mapping[str, str], *, limit: int | None = None) -> list[RunRecord]:
        """Runs that have all of `tags`, the newest first."""
        return self.search(" and ".join(f"tags.`{key}` = '{value}'" for key, value in tags.items()), limit=limit)

    def search(self, wanted: str, *, limit: int | None = None, deleted: bool = False) -> list[RunRecord]:
        """Runs that a filter of MLflow's takes, the newest first; `deleted`: of those in its trash."""
        from mlflow.entities import ViewType

        found: list[RunRecord] = []
        token: str | None = None
        while self.experiment_id is not None:
            with self._readable():
                page = self.client.search_runs(
                    [self.experiment_id],
                    wanted,
                    ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY,
                    max_results=min(limit or PAGE, PAGE),
                    order_by=["attributes.start_time DESC"],
                    page_token=token,
                )
            found += [self._record(run) for run in page]
            token = page.token
            if not token or (limit and len(found) >= limit):
                break
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
            metrics={key: number(value) for key, value in sorted(data.metrics.items())},
            start_ms=info.start_time,
            end_ms=info.end_time,
            experiment_id=info.experiment_id,
            artifact_uri=info.artifact_uri,
            _reader=self,
        )

    def history(self, run_id: str, key: str) -> Points:
        if (run_id, key) not in self._histories:
            metrics = sorted(self.client.get_metric_history(run_id, key), key=lambda one: (one.step, one.timestamp))
            self._histories[run_id, key] = [(one.step, number(one.value)) for one in metrics]
        return list(self._histories[run_id, key])

    def artifact(self, run: RunRecord, path: str, *, into: Path | None) -> Path:
        root = local_folder(run.artifact_uri)
        found = root / path if root else self._download(run, path, into or self._downloads / run.run_id)
        inside = (root or found.parents[len(PurePosixPath(path).parts) - 1]).resolve()
        if not found.exists() or not found.resolve().is_relative_to(inside):
            raise FileNotFoundError(f"run {run.name} has no artifact {path}")
        return found

    @cached_property
    def _downloads(self) -> Path:
        folder = Path(mkdtemp(prefix="stridelab-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _download(self, run: RunRecord, path: str, into: Path) -> Path:
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        address, folder = f"{run.artifact_uri}/{path}", str((into / path).parent)
        try:
            return Path(download_artifacts(artifact_uri=address, dst_path=folder, tracking_uri=self.store.uri))
        except (MlflowException, OSError) as error:
            raise FileNotFoundError(f"run {run.name} has no artifact {path}, or it cannot be had: {error}") from error

    def files(self, run_id: str, folder: str | None = None) -> Iterator[str]:
        for entry in self.client.list_artifacts(run_id, folder):
            if entry.is_dir:
                yield from self.files(run_id, entry.path)
            elif entry.path != names.FOLDER_ARCHIVE:  # whose content is all the others
                yield entry.path


def number(value: float) -> float:
    """MLflow keeps infinities as the largest float."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value

"""Runs as their own folders have them: what the store mirrors, read without it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

from stridelab import names

from .journal import JOURNAL, TERMINAL, Record, attached, merged, read
from .journal_cursor import place_of, saved_position
from .mlflow_reader import Points, RunRecord
from .run import read_identity
from .store import Store


class FolderReader:
    """One run's folder. FileNotFoundError or ValueError when it holds no run, or a damaged journal."""

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder.resolve(), store
        self.identity = read_identity(folder)
        self.records = read(folder / JOURNAL)
        if not self.identity or not self.records:
            raise FileNotFoundError(f"{folder} holds no run")

    def record(self) -> RunRecord:
        """`run_id` is that in MLflow where the run has been sent, else the run's own uid."""
        params: dict[str, str] = {}
        for one in self._of("params"):
            params = one.data | params
        status = self._of("status")[-1]
        sent = saved_position(self.folder, place_of(self.store))
        return RunRecord(
            run_id=sent.get("run_id") or self.identity["uid"],
            name=self.identity["name"],
            status=status.data["status"],
            reason=status.data["reason"],
            params=params,
            tags={names.SIGNATURE: self.identity["signature"], names.UID: self.identity["uid"]}
            | merged(self.records, "tags"),
            metrics={key: points[-1][1] for key, points in sorted(self.histories.items())},
            start_ms=self.records[0].ms,
            end_ms=status.ms if status.data["status"] in TERMINAL else None,
            experiment_id=sent.get("experiment_id", ""),
            artifact_uri="",
            _reader=self,
        )

    def history(self, run_id: str, key: str) -> Points:
        return list(self.histories.get(key, []))

    @cached_property
    def histories(self) -> dict[str, Points]:
        """By name, in order of recording, each in order of steps; of two values at one step the first counts."""
        values: dict[str, dict[int, float]] = {}
        for one in self._of("metrics"):
            for key, value in one.data["values"].items():
                values.setdefault(key, {}).setdefault(one.data["step"], float(value))
        return {key: sorted(points.items()) for key, points in values.items()}

    def artifact(self, run: RunRecord, path: str, *, into: Path | None) -> Path:
        for name, place in reversed(self._attached.items()):
            if path == name or path.startswith(f"{name}/"):
                found = self.folder / place / PurePosixPath(path).relative_to(name)
                if found.exists() and found.resolve().is_relative_to(self.folder):
                    return found
        raise FileNotFoundError(f"run {run.name} has no artifact {path}")

    def files(self, run_id: str) -> Iterator[str]:
        for name, place in self._attached.items():
            found = self.folder / place
            inside = sorted(one for one in found.rglob("*") if one.is_file()) if found.is_dir() else [found]
            yield from (str(PurePosixPath(name, one.relative_to(found))) for one in inside if one.exists())

    @cached_property
    def _attached(self) -> dict[str, str]:
        return attached(self.records)

    def _of(self, kind: str) -> list[Record]:
        return [one for one in self.records if one.kind == kind]


def read_folder(folder: Path, store: Store) -> RunRecord | None:
    """None when it holds no run that can be read."""
    try:
        return FolderReader(folder, store).record()
    except (OSError, ValueError):
        return None

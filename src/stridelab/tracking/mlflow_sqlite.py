"""Runs and histories from the tables of a SQLite store, without MLflow: to import it and open its store takes two
seconds, and its search three times as long as these queries."""

from __future__ import annotations

import math
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

IDS_A_QUERY = 500

Points = list[tuple[int, float]]


@dataclass
class Row:
    """A run as MLflow keeps it."""

    run_id: str
    name: str | None
    status: str
    start_ms: int
    end_ms: int | None
    experiment_id: str
    artifact_uri: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    """The value at the highest step."""


def experiment_id(path: Path, name: str) -> str | None:
    """Its id, or None when there is none or it was deleted. sqlite3.Error: not a store as we know it."""
    with _open(path) as database:
        found = database.execute(
            "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'", [name]
        ).fetchone()
    return str(found[0]) if found else None


def runs(
    path: Path, experiment: str, *, tags: Mapping[str, str], run_id: str = "", limit: int | None = None
) -> list[Row]:
    """Those not deleted that have all of `tags`, the newest first."""
    wanted = "".join(" AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value = ?)" for _ in tags)
    values = [text for pair in tags.items() for text in pair]
    if run_id:
        wanted, values = f"{wanted} AND run_uuid = ?", [*values, run_id]
    with _open(path) as database:
        database.execute("BEGIN")  # one state of the store, whatever is written meanwhile
        found = database.execute(
            "SELECT run_uuid, name, status, start_time, end_time, experiment_id, artifact_uri FROM runs "
            f"WHERE experiment_id = ? AND lifecycle_stage = 'active'{wanted} ORDER BY start_time DESC, run_uuid "
            f"LIMIT {-1 if limit is None else limit}",
            [int(experiment), *values],
        )
        rows = {
            one: Row(one, name, status, start, end, str(experiment), uri)
            for one, name, status, start, end, experiment, uri in found
        }
        for one, key, value in _of_runs(database, "run_uuid, key, value FROM params", list(rows)):
            rows[one].params[key] = value
        for one, key, value in _of_runs(database, "run_uuid, key, value FROM tags", list(rows)):
            rows[one].tags[key] = value
        for one, key, *value in _of_runs(database, "run_uuid, key, value, is_nan FROM latest_metrics", list(rows)):
            rows[one].metrics[key] = number(*value)
    return list(rows.values())


def histories(path: Path, ids: Sequence[str], key: str) -> dict[str, Points]:
    """(step, value) of each run, in order of steps."""
    read: dict[str, Points] = {one: [] for one in ids}
    with _open(path) as database:
        # The + keeps SQLite from using the index on key, which would read every run's rows.
        what = "run_uuid, step, value, is_nan FROM metrics"
        for one, step, *value in _of_runs(database, what, ids, where="+key = ?", values=[key], last="step, timestamp"):
            read[one].append((step, number(*value)))
    return read


def number(value: float, is_nan: object = False) -> float:
    """MLflow keeps infinities as the largest float."""
    if is_nan:
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


def _of_runs(
    database: sqlite3.Connection, what: str, ids: Sequence[str], *, where: str = "1", values: Sequence[str] = (),
    last: str = "key",
) -> Iterator[tuple[Any, ...]]:  # fmt: skip
    for start in range(0, len(ids), IDS_A_QUERY):
        some = ids[start : start + IDS_A_QUERY]
        marks = ", ".join("?" * len(some))
        yield from database.execute(
            f"SELECT {what} WHERE {where} AND run_uuid IN ({marks}) ORDER BY {last}", [*values, *some]
        )


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=5)) as database:
        yield database

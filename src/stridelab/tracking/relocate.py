"""A results folder that was moved or copied: MLflow keeps absolute addresses of artifacts, which then lead nowhere."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from urllib.parse import unquote, urlparse

from stridelab import names

from .store import Store, opened

log = logging.getLogger(__name__)


OURS = """SELECT DISTINCT e.experiment_id, e.artifact_location FROM experiments e JOIN runs r ON
    r.experiment_id = e.experiment_id JOIN tags t ON t.run_uuid = r.run_uuid WHERE t.key = ?"""
"""Experiments that hold runs of ours."""


def follow_move(store: Store) -> None:
    """Let our own runs' addresses in a SQLite store lead to the artifacts beside it, where they lead nowhere any more,
    or into the folder that this one is a copy of. Whatever others keep in the same file stays as it is. Quick, and
    silent when it cannot be done: then the store is read as it is."""
    if store.database is None or not store.database.exists() or not Path(store.artifact_root).is_dir():
        return
    here = Path(store.artifact_root).as_uri()
    try:
        with opened(store.database, timeout_s=2) as database:
            found = database.execute(OURS, (names.UID,)).fetchall()
            old = [(number, where) for number, where in found if where != here and has_moved(where, store)]
            if old:
                with database:
                    for number, location in old:
                        _replace(database, number, location, here)
                log.warning("the results folder was moved or copied; its store now leads to %s.", store.artifact_root)
    except sqlite3.Error as error:
        log.debug("the store's addresses could not be looked at: %s", error)


def has_moved(location: str, store: Store) -> bool:
    """Whether it is an address as we make them, beside a store that is no longer there, or of which this is a copy."""
    place, mine = Path(unquote(urlparse(location).path)), Path(store.artifact_root)
    assert store.database is not None
    if urlparse(location).scheme != "file" or place.name != mine.name:
        return False
    if not place.exists():
        return True
    # where no store lies beside it, it is a folder of somebody's choice
    return not place.samefile(mine) and (place.parent / store.database.name).exists()


def _replace(database: sqlite3.Connection, number: int, old: str, new: str) -> None:
    """Of our runs in one experiment, and of the experiment where all its runs are ours."""
    ours = "run_uuid IN (SELECT run_uuid FROM tags WHERE key = ?)"
    others = f"SELECT 1 FROM runs WHERE experiment_id = ? AND NOT {ours} LIMIT 1"
    if database.execute(others, (number, names.UID)).fetchone() is None:
        database.execute("UPDATE experiments SET artifact_location = ? WHERE experiment_id = ?", (new, number))
    database.execute(
        "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) "
        f"WHERE experiment_id = ? AND substr(artifact_uri, 1, ?) = ? AND {ours}",
        (new, len(old) + 1, number, len(old) + 1, f"{old}/", names.UID),
    )

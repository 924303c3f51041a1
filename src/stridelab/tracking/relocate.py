"""A results folder that was moved or copied: MLflow keeps absolute addresses of artifacts, which then lead nowhere."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlparse

from .store import Store

log = logging.getLogger(__name__)


def follow_move(store: Store) -> None:
    """Let a SQLite store's addresses lead to the artifacts beside it, where they once were beside it elsewhere. Quick,
    and silent when it cannot be done: then the store is read as it is."""
    if store.database is None or not store.database.exists() or not Path(store.artifact_root).is_dir():
        return
    here = Path(store.artifact_root).as_uri()
    try:
        with closing(sqlite3.connect(f"file:{quote(str(store.database))}?mode=rw", uri=True, timeout=2)) as database:
            found = database.execute("SELECT DISTINCT artifact_location FROM experiments").fetchall()
            old = [location for (location,) in found if location != here and was_beside_a_store(location, here)]
            if old:
                with database:
                    for location in old:
                        _replace(database, location, here)
                log.warning("the results folder was moved or copied; its store now leads to %s.", store.artifact_root)
    except sqlite3.Error as error:
        log.debug("the store's addresses could not be looked at: %s", error)


def was_beside_a_store(location: str, here: str) -> bool:
    """Whether it is such an address as we make, of a folder that is not there any more or is another's."""
    place, mine = (Path(unquote(urlparse(uri).path)) for uri in (location, here))
    if urlparse(location).scheme != "file" or place.name != mine.name:
        return False
    return not (place.exists() and place.samefile(mine))  # by another path, as through a link


def _replace(database: sqlite3.Connection, old: str, new: str) -> None:
    """Of the experiment, and of its runs: what follows the folder stays."""
    database.execute("UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (new, old))
    database.execute(
        "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE substr(artifact_uri, 1, ?) = ?",
        (new, len(old) + 1, len(old) + 1, f"{old}/"),
    )

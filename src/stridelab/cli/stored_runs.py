"""Finished runs as a store and this machine's folders hold them, for commands that add to them afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from stridelab import names
from stridelab.config import Config
from stridelab.reproduce.rebuild import rebuild
from stridelab.sweep.preflight import writable
from stridelab.tracking.find import folders_by_uid
from stridelab.tracking.mlflow_reader import RunRecord
from stridelab.tracking.store import Store
from stridelab.tracking.sync import Mirror

from .program import command

FLUSH_S = 60.0


@dataclass(frozen=True)
class StoredRun:
    record: RunRecord
    config: Config
    folder: Path | None
    """None: its journal is not on this machine, so that nothing can be recorded in it."""


def finished(records: Sequence[RunRecord], results: Path) -> list[StoredRun]:
    """Those of `records` that have finished. ValueError when none has, or nothing can be added to them."""
    folders = folders_by_uid(results)
    found = [
        StoredRun(run, config_of(run), folders.get(run.tags.get(names.UID, ""))) for run in records if run.is_finished
    ]
    if not found:
        raise ValueError(f"{describe(records)} has finished; only finished runs are measured.")
    if any(run.folder for run in found):
        writable(results)
    return found


def describe(records: Sequence[RunRecord]) -> str:
    return f"the run {records[0].name} is {records[0].status}: none" if len(records) == 1 else f"none of {len(records)}"


def config_of(run: RunRecord) -> Config:
    return rebuild(json.loads(run.artifact(names.CONFIG_FILE).read_text(encoding="utf-8"))).config


def send(store: Store, folders: Iterable[Path | None], console: Console) -> None:
    """What was added to the runs in `folders`, into the store."""
    with Mirror(store) as mirror:
        for folder in filter(None, folders):
            mirror.watch(folder)
        if not mirror.flush(FLUSH_S):
            console.print(f"[yellow]The tracking store did not take everything[/]; {command('runs')} sync sends it.")

"""The runs of a local store into a team's: sent, read back, and only then called moved."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from stridelab import names
from stridelab.system.files import read_json, write_json_atomic
from stridelab.text import plural

from .find import Finder
from .folder_reader import FolderReader
from .journal_cursor import POSITION, place_of, saved_position
from .mlflow_reader import Reader, RunRecord
from .parcel import Parcel, pack
from .restore import download, remake
from .staging import scratch
from .status import put_aside_damaged, repair
from .store import Store
from .sync import Mirror

if TYPE_CHECKING:
    from mlflow import MlflowClient

AT_ONCE = 50
"""Runs that are sent before they are read back."""
VERIFIED = "verified"
"""In `mirror.json`: the digest of what was read back; the key goes when more is sent."""
THE_STORES = (names.SENT, names.PARENT_RUN, names.LOGGED_IMAGES)
"""Tags that are each store's own."""

Told = Callable[[int, int], None]
"""How many of how many are there."""


@dataclass(frozen=True)
class Moved:
    num_runs: int
    """That the other store has, equal to the digest; a sweep's own run counts as one."""
    said: tuple[str, ...]
    """What is not moved, and why."""
    complete: bool


def move(source: Store, results_dir: Path, target: Store, *, told: Told = lambda done, total: None) -> Moved:
    """What the folders and `source` hold into `target`. The same call again goes on where one was cut off, and sends
    nothing twice. ValueError when a store cannot be read."""
    Reader(target)  # one that does not answer is said before anything is touched
    said = put_aside_damaged(results_dir)
    repair(results_dir)
    here, trash = stored_runs(source)
    said += list(remade(source, results_dir, here))
    folders = {uid: path for uid, path in Finder(source, results_dir).folders.items() if uid not in trash}
    waiting, done = iter(folders.items()), 0
    while some := dict(islice(waiting, AT_ONCE)):
        with Mirror(target, training=False) as mirror:
            for folder in some.values():
                mirror.watch(folder)
            sent = mirror.flush(math.inf, patient=False, recheck=True)
            said += [*([] if sent else [mirror.what_is_missing()]), *mirror.what_is_odd()]
        if not sent:
            break
        for uid, folder in some.items():
            wrong = settle(folder, target, here.get(uid), uid=uid)
            said += [f"{folder}: {wrong}."] if wrong else []
            done += not wrong
        told(done, len(folders))
    left_out = [f"left out: {plural(len(trash), 'run')} in the trash of the local store."] if trash else []
    return Moved(done, (*said, *left_out), complete=done == len(folders) and not said)


def stored_runs(source: Store) -> tuple[Mapping[str, RunRecord], set[str]]:
    """By uid, those of ours that a SQLite store lists, and the uids of those in its trash. Of none, nothing."""
    assert source.database is not None
    if not source.database.exists():
        return {}, set()
    reader = Reader(source)
    active, trash = (
        {run.tags[names.UID]: run for run in reader.search("", deleted=deleted) if names.UID in run.tags}
        for deleted in (False, True)
    )
    return active, set(trash) - set(active)


def remade(source: Store, results_dir: Path, stored: Mapping[str, RunRecord]) -> Iterator[str]:
    """Make the folders that are missing here again, from what the store keeps of them; why one cannot be made."""
    folders = Finder(source, results_dir).folders
    for uid, run in stored.items():
        if uid in folders:
            continue
        kind = "sweeps" if run.tags.get(names.ROLE) == "sweep" else "runs"
        name = run.tags[names.SWEEP] if kind == "sweeps" else run.tags[names.SIGNATURE]
        home = results_dir / kind / name
        try:
            remake(run, home.with_name(f"{name}-{uid[:8]}") if home.exists() else home, store=source)
        except ValueError as error:
            yield f"{error}; its folder is not here either: it stays where it is."


def settle(folder: Path, target: Store, stored: RunRecord | None, *, uid: str) -> str:
    """Compare what `target` has of a run with its folder, and add what people have written to the run in the first
    store. Why it is not the same; empty when it is. What was found equal and not added to since is not read again."""
    try:
        digest = digest_of(pack(folder, {}))
        if saved_position(folder, place_of(target)).get(VERIFIED) == digest:
            return ""
        reader = Reader(target)
        found = reader.having({names.UID: uid})
        if len(found) != 1:
            return f"the other store has {len(found)} runs of it, not one"
        mine = FolderReader(folder, target)
        if differ := difference(found[0], mine, digest):
            return differ
    except (ValueError, OSError) as error:
        return str(error)
    if stored is not None:
        carry_edits(stored, found[0], mine.record(), reader.client)
    positions = read_json(folder / POSITION) or {}
    marked = positions.get(place_of(target), {}) | {VERIFIED: digest}
    write_json_atomic(folder / POSITION, positions | {place_of(target): marked}, durable=False)
    return ""


def digest_of(parcel: Parcel) -> str:
    """Of a run's identity, all its records and the SHA-256 of each of its files."""
    return hashlib.sha256(parcel.to_json()).hexdigest()


def difference(run: RunRecord, mine: FolderReader, digest: str) -> str:
    """What a store's run, its files read back, has other than its folder, whose digest is given."""
    with scratch(mine.folder.parent.parent) as spare:
        if digest_of(download(run, spare)) != digest:
            return "the other store has other records or files of it"
    differing = [key for key, points in mine.histories.items() if repr(run.history(key)) != repr(points)]
    if differing:
        return f"the other store has other values of {', '.join(sorted(differing)[:5])}"
    record = mine.record()
    same = (record.params, record.status) == (run.params, run.status)
    return "" if same else "the other store has another status or other parameters of it"


def carry_edits(stored: RunRecord, moved: RunRecord, recorded: RunRecord, client: MlflowClient) -> None:
    """What people have added or changed in the pages of the first store (notes, tags, names) is in no journal; and
    links among its pages lead by the ids of that store."""
    for key, value in stored.tags.items():
        new = value.replace(stored.run_id, moved.run_id)
        new = new.replace(f"/experiments/{stored.experiment_id}/", f"/experiments/{moved.experiment_id}/")
        edited = value != recorded.tags.get(key) or new != value
        if edited and new != moved.tags.get(key) and key not in THE_STORES:
            client.set_tag(moved.run_id, key, new, synchronous=True)

"""Runs and sweeps by name, id, or the latest: from the folders of this results folder, else from the store."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, cached_property, partial
from pathlib import Path

from stridelab import names
from stridelab.text import printable

from .folder_reader import read_folder
from .journal import JOURNAL, first
from .journal_cursor import place_of, saved_position
from .mlflow_reader import Reader, RunRecord
from .run import read_identity
from .settings import redact
from .status import run_folders
from .store import Store

LISTED = 8
SHORT_ID = re.compile(r"[0-9a-f]{6,31}")
KEYS = {"sweep": names.SWEEP, "run": names.SIGNATURE}
"""Tags that stand for a name."""

Children = Callable[[], Mapping[str, RunRecord]]
"""A sweep's runs by signature, as the store lists them; asked for when they are needed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepRecord:
    run_id: str
    name: str
    note: str
    """Markdown."""
    tags: Mapping[str, str]
    runs: tuple[RunRecord, ...]
    """In the sweep's order; its own members, never runs of the same signature that came from elsewhere."""
    run: RunRecord
    """The sweep's own run, which the others hang under and the report is attached to."""
    missing: tuple[str, ...] = ()
    """Signatures of members that are neither in a folder here nor in the store."""

    @property
    def is_imported(self) -> bool:
        return names.IMPORTED in self.tags

    def has_trained(self, run: RunRecord) -> bool:
        """Whether one of its runs is its own, and not taken over from another sweep."""
        return run.tags.get(names.SWEEP) == self.name

    @property
    def folder_name(self) -> str:
        """For its report. A name from elsewhere may be a path, or that of a sweep of this results folder."""
        name = self.name if names.PLAIN_NAME.fullmatch(self.name) else self.run_id
        return f"{name}.imported-{self.tags[names.UID][:8]}" if self.is_imported else name


@dataclass(frozen=True)
class Head:
    """What a run is found by."""

    uid: str
    run_id: str
    name: str
    key: str
    """The signature of a run, the name of a sweep."""
    start_ms: int
    is_imported: bool
    record: RunRecord | None = None
    """When it was read in the store."""


class Finder:
    """Looks in a results folder first: a run's folder is the truth, and the store mirrors it."""

    def __init__(self, store: Store, results: Path | None) -> None:
        self.store, self.results = store, results

    @cached_property
    def reader(self) -> Reader:
        return Reader(self.store)

    @cached_property
    def folders(self) -> dict[str, Path]:
        return folders_by_uid(self.results) if self.results else {}

    def here(self, uid: str) -> RunRecord | None:
        return read_folder(self.folders[uid], self.store) if uid in self.folders else None

    def heads_here(self, role: str) -> Iterator[Head]:
        place = place_of(self.store)
        for uid, folder in self.folders.items():
            identity, start = read_identity(folder), first(folder / JOURNAL)
            if start is not None and identity.get("role") == role:
                run_id = saved_position(folder, place).get("run_id", uid)
                key = identity["sweep" if role == "sweep" else "signature"]
                yield Head(uid, run_id, identity["name"], key, start.ms, names.IMPORTED in identity.get("tags", {}))

    def heads_stored(self, role: str) -> Iterator[Head]:
        for one in self.reader.having({names.ROLE: role}):
            uid, key = one.tags.get(names.UID, one.run_id), one.tags.get(KEYS[role], "")
            yield Head(uid, one.run_id, one.name, key, one.start_ms, names.IMPORTED in one.tags, one)

    def one(self, role: str, wanted: str) -> RunRecord:
        """By id (of MLflow, or the run's uid), by name, or the latest, or by the first characters of an id: of the
        folders, else of the store. ValueError lists the recent ones."""
        seen: dict[str, Head] = {}
        for heads in (self.heads_here, self.heads_stored):
            try:
                found = sorted(heads(role), key=lambda one: (one.is_imported, -one.start_ms))
            except ValueError as error:
                if not seen:
                    raise
                log.warning("%s; what follows is from the run folders.", error)
                break
            named = [one for one in found if wanted in (one.uid, one.run_id)]
            named = named or [one for one in found if wanted in ("latest", one.name, one.key)]
            named = named or _begun(role, wanted, found)
            for head in named:  # own before imported ones, the newest first
                if record := self.here(head.uid) or head.record:
                    _tell_other(role, wanted, head, named)
                    return record
            _refuse_other_role(role, wanted, heads)
            seen = {one.uid: one for one in found} | seen
        raise ValueError(_not_found(role, wanted, list(seen.values()), self.store))

    def load(self, sweep: RunRecord) -> SweepRecord:
        members, children = names.members_of(sweep.tags), cache(partial(self._children, sweep))
        chosen = {signature: self._member(sweep, signature, uid, children) for signature, uid in members}
        return SweepRecord(
            run_id=sweep.run_id,
            name=sweep.tags.get(names.SWEEP) or sweep.name,
            note=sweep.tags.get(names.NOTE, ""),
            tags=sweep.tags,
            runs=tuple(run for run in (chosen if members else children()).values() if run is not None),
            run=sweep,
            missing=tuple(signature for signature, run in chosen.items() if run is None),
        )

    def _member(self, sweep: RunRecord, signature: str, uid: str, children: Children) -> RunRecord | None:
        """By uid; of one that was not yet known when the list was written, by the name of its folder, or the
        newest that this sweep or another of the store's trained. What was imported never stands for it."""
        if uid:
            if (here := self.here(uid)) or ((child := children().get(signature)) and child.tags.get(names.UID) == uid):
                return here or child
            return next(iter(self.reader.having({names.UID: uid}, limit=1)), None)
        folder = self.results / "runs" / signature if self.results else None
        if folder and names.IMPORTED not in sweep.tags and (found := read_folder(folder, self.store)):
            return found
        if signature in children():
            return children()[signature]
        same = self.reader.having({names.SIGNATURE: signature, names.ROLE: "run"})
        return next((one for one in same if names.IMPORTED not in one.tags), None)

    def _children(self, sweep: RunRecord) -> dict[str, RunRecord]:
        """By signature; of a run that was trained again, the last."""
        found = reversed(self.reader.having({names.PARENT_RUN: sweep.run_id}))
        return {one.tags.get(names.SIGNATURE, one.run_id): one for one in found}


def folders_by_uid(results: Path) -> dict[str, Path]:
    """A run that was trained again has a folder beside its first, so the signature does not tell."""
    return {uid: folder for folder in run_folders(results) if (uid := read_identity(folder).get("uid"))}


def find_sweep(store: Store, wanted: str = "latest", *, results: Path | None = None) -> SweepRecord:
    """By name, by run id, or the latest of this results folder and store. ValueError lists the recent ones."""
    finder = Finder(store, results)
    return finder.load(finder.one("sweep", wanted))


def read_sweep(folder: Path, store: Store) -> SweepRecord:
    """The sweep in a folder `<results>/sweeps/<name>`; the store is asked only for what has no folder here."""
    finder, sweep = Finder(store, folder.parent.parent), read_folder(folder, store)
    if sweep is None:
        raise ValueError(f"{folder} holds no sweep, or a damaged one.")
    return finder.load(sweep)


def find_run(store: Store, wanted: str = "latest", *, results: Path | None = None) -> RunRecord:
    """By run id, signature or name, or the latest. ValueError lists the recent ones."""
    return Finder(store, results).one("run", wanted)


def _begun(role: str, wanted: str, found: Sequence[Head]) -> list[Head]:
    """The one whose id begins so, as lists show ids."""
    near = [one for one in found if one.run_id.startswith(wanted)] if SHORT_ID.fullmatch(wanted) else []
    if len(near) > 1:
        raise ValueError(f"{role}={wanted} is the beginning of {len(near)} ids; give more of it.")
    return near


def _refuse_other_role(role: str, wanted: str, heads: Callable[[str], Iterator[Head]]) -> None:
    other, instead = ("sweep", "one of its runs") if role == "run" else ("run", "its sweep")
    if any(wanted in (one.uid, one.run_id) for one in heads(other)):
        raise ValueError(f"{role}={wanted} is a {other}; give {instead}.")


def _tell_other(role: str, wanted: str, head: Head, named: Sequence[Head]) -> None:
    others = [one.run_id for one in named if one.is_imported]
    if wanted != "latest" and not head.is_imported and others:
        said = "%s=%s is the one that was made here; another of that name was imported: %s=%s."
        log.warning(said, role, wanted, role, others[0])


def _not_found(what: str, wanted: str, heads: Sequence[Head], store: Store) -> str:
    where = f"in {redact(store.uri)}, experiment {store.experiment}"
    if not heads:
        return f"{what}={wanted}: there is no {what} yet {where}."
    recent = sorted(heads, key=lambda one: -one.start_ms)[:LISTED]
    listed = "".join(f"\n  {_when(one.start_ms)}  {one.run_id}  {printable(one.name, limit=120)}" for one in recent)
    return f"{what}={wanted} is not {where}. The most recent, by date, id and name:{listed}"


def _when(ms: int) -> str:
    try:
        return f"{datetime.fromtimestamp(ms / 1000):%Y-%m-%d %H:%M}"
    except (ValueError, OSError, OverflowError):
        return "an impossible date"

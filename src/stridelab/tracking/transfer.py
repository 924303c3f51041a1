"""A sweep out of one results folder as an archive, and into another."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stridelab import names
from stridelab.system.files import sha256_of

from . import archive
from .archive import Limits
from .find import Finder
from .journal import JOURNAL, Journal, merged, read
from .mlflow_reader import Reader, RunRecord
from .parcel import Parcel, afresh, pack, unpack
from .restore import download
from .run import member_tags, read_identity
from .staging import scratch
from .status import IMPORTED_PREFIX
from .store import Store
from .sync import Synced, send_folders

FLUSH_S = 600.0


@dataclass(frozen=True)
class Exported:
    path: Path
    sweep: str
    num_runs: int
    num_files: int
    num_bytes: int
    """Of the archive."""


@dataclass(frozen=True)
class Imported:
    sweep: str
    """Name."""
    run_id: str
    """Of the sweep's own run in the store; its uid when it is not there yet."""
    new: tuple[Path, ...]
    """Folders that were made, the sweep's first."""
    num_known: int
    """Runs, the sweep's own included, that were here already and are left alone."""
    listed: bool
    """Whether the sweep's own run, which says what belongs to it, knows the new ones."""
    sent: Synced
    """Whether the store has all of it, of what was here already too."""


def export_sweep(
    store: Store, wanted: str, to: Path, *, results: Path | None = None, limits: Limits | None = None
) -> Exported:
    """The folders of a sweep and its runs in one file: those of this results folder, else those that are attached in
    the store. ValueError when there is no such sweep, when `to` exists, or when it would be larger than what may be
    imported."""
    limits = limits or Limits()
    archive.kind_of(to)
    if to.exists():
        raise ValueError(f"to={to} exists already; choose another name or remove it.")
    finder = Finder(store, results)
    sweep = finder.load(finder.one("sweep", wanted))
    if sweep.missing:
        raise ValueError(f"of sweep {sweep.name} these runs are nowhere: {', '.join(sweep.missing)}.")
    to.parent.mkdir(parents=True, exist_ok=True)
    with scratch(to.parent) as place:
        files: dict[str, Path] = {}
        parcels = [_parcel(run, finder, place, files) for run in (sweep.run, *sweep.runs)]
        _limit_points(to, parcels, limits)
        archive.write(to, {f"runs/{one.key}.json": one.to_json() for one in parcels}, files, limits=limits, place=place)
    return Exported(to, sweep.name, len(parcels) - 1, len(files), to.stat().st_size)


def _parcel(run: RunRecord, finder: Finder, place: Path, files: dict[str, Path]) -> Parcel:
    uid = run.tags.get(names.UID, "")
    if uid in finder.folders:
        return pack(finder.folders[uid], files)
    parcel = download(run, place / run.run_id)
    files |= {sha: place / run.run_id / "files" / sha for sha in parcel.files.values()}
    return parcel


def _limit_points(path: Path, parcels: Iterable[Parcel], limits: Limits) -> None:
    if (points := sum(one.num_points for one in parcels)) > limits.points:
        raise ValueError(f"{path} holds {points:,} values of metrics; {limits.points:,} are the most.")


def import_sweep(source: Path, store: Store, results_dir: Path, *, limits: Limits | None = None) -> Imported:
    """Make the runs of an archive runs of this results folder and store, under ids of their own. What is here already
    is left alone; what the store lacks of it is sent. ValueError, and nothing stays, when anything about the archive
    is wrong, whoever made it."""
    if not source.is_file():
        raise ValueError(f"{source} is not a file; one that `stridelab runs export` wrote is expected.")
    limits, fresh = limits or Limits(), not results_dir.exists()
    try:
        with scratch(results_dir) as place:
            runs, sha = _read_runs(source, limits, place)
            known = known_uids(store, results_dir)
            own = {run.uid: run.uid if run.uid in known else imported_uid(run.uid) for run in runs}
            sweep, *others = sorted(runs, key=lambda run: run.role != "sweep")
            mine = known.get(own[sweep.uid]) or hashlib.sha256(own[sweep.uid].encode()).hexdigest()[:16]
            new = [run for run in (sweep, *others) if own[run.uid] not in known]
            folders = [_write(run, place, results_dir, uid=own[run.uid], parent=mine, imported=sha) for run in new]
    except ValueError:
        with suppress(OSError):
            if fresh:
                results_dir.rmdir()
        raise
    here = Finder(store, results_dir).folders.items()
    home = {uid: folder for uid, folder in here if uid in own.values()}  # the sweep's first
    listed = _list_members(home.get(own[sweep.uid]), sweep, own) or not new
    sent = send_folders(store, list(home.values()), timeout_s=FLUSH_S)
    record = Finder(store, results_dir).here(own[sweep.uid])
    name = sweep.tags.get(names.SWEEP, sweep.name)
    run_id = record.run_id if record else own[sweep.uid]
    return Imported(name, run_id, tuple(folders), len(runs) - len(new), listed, sent)


def _read_runs(source: Path, limits: Limits, place: Path) -> tuple[list[Parcel], str]:
    """All of them, checked; their files are in `place`/files."""
    runs: list[Parcel] = []

    def take(name: str, content: Any) -> None:
        run = unpack(content, at=f"{source}: member {name!r}")
        if name != f"runs/{run.key}.json":
            raise ValueError(f"{source}: member {name!r} is not named by the hash of its uid. Nothing was imported.")
        runs.append(run)
        _limit_points(source, runs, limits)

    _check_whole(source, runs, archive.read(source, limits=limits, into=place, take=take))
    return runs, sha256_of(source)


def _check_whole(source: Path, runs: Sequence[Parcel], members: Iterable[str]) -> None:
    sweeps = sum(run.role == "sweep" for run in runs)
    if sweeps != 1:
        raise ValueError(f"{source} holds {sweeps} sweeps; it must hold 1. Nothing was imported.")
    wanted = {f"files/{sha}" for run in runs for sha in run.files.values()}
    there = {name for name in members if name.startswith("files/")}
    for name in sorted(wanted ^ there):
        rule = "belongs to no run" if name in there else "is an artifact of a run but not in the archive"
        raise ValueError(f"{source}: member {name!r} {rule}. Nothing was imported.")


def imported_uid(uid: str) -> str:
    """Made from the one that came along, so that importing twice is importing once, and never that of a run here."""
    return hashlib.sha256(f"imported {uid}".encode()).hexdigest()[:32]


def known_uids(store: Store, results_dir: Path) -> dict[str, str]:
    """uid -> signature of all runs that this results folder or the store holds."""
    folders = Finder(store, results_dir).folders
    found = {uid: read_identity(folder)["signature"] for uid, folder in folders.items()}
    if store.database is None or store.database.exists():
        with suppress(ValueError):  # a store that is away knows of none; what comes is sent to it later
            stored = Reader(store).having({})
            found = {one.tags.get(names.UID, ""): one.tags.get(names.SIGNATURE, "") for one in stored} | found
    return found


def _write(run: Parcel, place: Path, results_dir: Path, *, uid: str, parent: str, imported: str) -> Path:
    """The run's folder in its final place, as recording here would have left it."""
    is_sweep = run.role == "sweep"
    made = afresh(
        run,
        uid=uid,
        parent=None if is_sweep else parent,
        signature=parent if is_sweep else run.signature,  # a sweep's is made of its name, which one here may have
        imported=imported,
    )
    new = place / "new"
    made.write(new, place / "files", parent=None if is_sweep else parent)
    home = results_dir / ("sweeps" if is_sweep else "runs") / f"{IMPORTED_PREFIX}{uid[:16]}"
    home.parent.mkdir(exist_ok=True)
    if home.exists():  # it holds no run, or it would be known
        shutil.rmtree(home)
    return new.rename(home)


def _list_members(folder: Path | None, sweep: Parcel, own: Mapping[str, str]) -> bool:
    """Let a sweep that was imported know its runs, also those that have come since; one that was run here keeps its
    own list. Whether it knows them."""
    if folder is None or not folder.name.startswith(IMPORTED_PREFIX):
        return False
    tags = {key: value for key, value in sweep.tags.items() if key.startswith(names.MEMBERS)}
    words = [f"{signature}:{own.get(uid, imported_uid(uid))}" for signature, uid in names.members_of(tags) if uid]
    wanted = member_tags(words)
    if not wanted.items() <= merged(read(folder / JOURNAL), "tags").items():
        with closing(Journal(folder / JOURNAL)) as journal:
            journal.append("tags", wanted, durable=True)
    return True

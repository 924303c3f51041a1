"""A sweep out of one store as an archive, and into another as if it had been run there."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stridelab import names
from stridelab.system.files import read_json, write_json_atomic

from . import archive
from .archive import Limits
from .find import find_sweep
from .journal import JOURNAL, Journal, encode
from .mlflow_reader import Reader, RunRecord
from .portable import CUT_OFF, DATASET_KEYS, IMPORTED, Portable, broken_rule, clashing, journal_of, parse
from .run import IDENTITY, clean
from .staging import scratch
from .status import TERMINAL, run_folders
from .store import Store
from .sync import Mirror

ARTIFACTS = "artifacts"
FLUSH_S = 600.0
LEFT_BEHIND = (names.UID, names.PARENT_RUN, names.REASON, names.DATASET_CONTEXT)
KEPT_OF_MLFLOW = (names.LOGGED_IMAGES, names.SOURCE_COMMIT)
"""Of MLflow's own tags. Not the note, whose links lead into the store that it was written in; no user names."""


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
    """Of the sweep's own run in the store; empty when it is not there yet."""
    new: tuple[Path, ...]
    """Folders that were made, the sweep's first."""
    num_known: int
    """Runs, the sweep's own included, that were here already and are left alone."""
    listed: bool
    """Whether the sweep's own run, which says what belongs to it, knows the new ones."""
    complete: bool
    """Whether the store has taken everything."""


def export_sweep(store: Store, wanted: str, to: Path, *, limits: Limits | None = None) -> Exported:
    """Everything that the store knows of a sweep and its runs, in one file. ValueError when there is no such sweep,
    when `to` exists, or when it would be larger than what may be imported."""
    limits = limits or Limits()
    archive.kind_of(to)
    if to.exists():
        raise ValueError(f"to={to} exists already; choose another name or remove it.")
    sweep = find_sweep(store, wanted)
    reader, files = Reader(store), dict[str, Path]()
    runs = [portable(run, reader, files) for run in (sweep.run, *sweep.runs)]
    records = {f"runs/{run.key}.json": run.to_json() for run in runs}
    to.parent.mkdir(parents=True, exist_ok=True)
    archive.write(to, records, files, limits=limits)
    return Exported(to, sweep.name, len(runs) - 1, len(files), to.stat().st_size)


def portable(run: RunRecord, reader: Reader, files: dict[str, Path]) -> Portable:
    """`run` as it travels; its artifacts are added to `files` by their SHA-256."""
    ended = run.status in TERMINAL and run.end_ms is not None
    metrics = {key: list(_points(reader, run.run_id, key)) for key in run.metrics}
    latest = max((ms for points in metrics.values() for _, _, ms in points), default=run.start_ms)
    return Portable(
        uid=_uid(run),
        signature=run.tags[names.SIGNATURE],
        name=run.name,
        role=run.tags[names.ROLE],
        status=run.status if ended else "KILLED",
        reason=run.reason if ended else CUT_OFF,
        start_ms=run.start_ms,
        end_ms=max(run.end_ms or latest, run.start_ms),
        params=dict(run.params),
        tags={key: value for key, value in run.tags.items() if _travels(key)},
        metrics=metrics,
        datasets=_datasets(reader, run.run_id),
        artifacts=_artifacts(run, files),
    )


def _uid(run: RunRecord) -> str:
    if names.UID not in run.tags or names.SIGNATURE not in run.tags:
        raise ValueError(f"run {run.name} ({run.run_id}) was not recorded by Stridelab and cannot be exported.")
    return run.tags[names.UID]


def _travels(tag: str) -> bool:
    return tag in KEPT_OF_MLFLOW or not (tag.startswith("mlflow.") or tag in LEFT_BEHIND)


def _points(reader: Reader, run_id: str, key: str) -> Iterator[tuple[int, float, int]]:
    """With times, which `Reader.history` leaves out; its values, which are right for infinities."""
    times = reader.client.get_metric_history(run_id, key)
    times = sorted(times, key=lambda metric: (metric.step, metric.timestamp))
    for metric, (step, value) in zip(times, reader.history(run_id, key), strict=True):
        yield step, value, metric.timestamp


def _datasets(reader: Reader, run_id: str) -> list[dict[str, str]]:
    found = []
    inputs = reader.client.get_run(run_id).inputs
    for one in inputs.dataset_inputs if inputs else ():
        contexts = [tag.value for tag in one.tags if tag.key == names.DATASET_CONTEXT]
        kept: Mapping[str, str] = json.loads(one.dataset.source).get("tags", {})
        values = (
            one.dataset.name,
            kept.get("sha256", one.dataset.digest),
            kept.get("source", ""),
            kept.get("licence", ""),
            (contexts or ["train"])[0],
        )
        found.append(dict(zip(DATASET_KEYS, map(str, values), strict=True)))
    return found


def _artifacts(run: RunRecord, files: dict[str, Path]) -> dict[str, str]:
    found = {}
    for path in run.artifacts():
        if rule := broken_rule(path):
            raise ValueError(f"run {run.name} ({run.run_id}): artifact {path!r} {rule}.")
        local = run.artifact(path)
        found[path] = sha = archive.sha256_of(local)
        files.setdefault(sha, local)
    if twice := clashing(found):
        raise ValueError(f"run {run.name} ({run.run_id}): two artifacts would be one file elsewhere: {twice!r}.")
    return found


def import_sweep(source: Path, store: Store, results_dir: Path, *, limits: Limits | None = None) -> Imported:
    """Make the runs of an archive runs of this results folder and store. What is here already, by uid, is left
    alone. ValueError before anything is written when anything about the archive is wrong, whoever made it."""
    limits = limits or Limits()
    contents = archive.read(source, limits=limits)
    runs = [_parsed(source, name, record) for name, record in contents.records.items()]
    _check_whole(source, runs, contents.sizes)
    sweep = next(run for run in runs if run.role == "sweep")
    known = known_runs(store, results_dir, [run.uid for run in runs])
    new = sorted((run for run in runs if run.uid not in known), key=lambda run: run.role != "sweep")
    mine = known.get(sweep.uid) or hashlib.sha256(f"imported sweep {sweep.uid}".encode()).hexdigest()[:16]
    folders: list[Path] = []
    if new:
        with scratch(results_dir) as place:
            archive.read(source, limits=limits, into=place)
            made = [_write(run, place, sha=contents.sha256, sweep_signature=mine) for run in new]
            folders = [_move(folder, results_dir) for folder in made]
    grown = _extend(sweep, results_dir, sha=contents.sha256) if new and sweep not in new else []
    run_id, complete = _send([*grown, *folders], store)
    name = sweep.tags.get(names.SWEEP, sweep.name)
    listed = bool(grown) or sweep in new or not new
    return Imported(name, run_id, tuple(folders), len(runs) - len(new), listed, complete)


def _parsed(source: Path, name: str, record: Any) -> Portable:
    run = parse(record, at=f"{source}: member {name!r}")
    if name != f"runs/{run.key}.json":
        raise ValueError(f"{source}: member {name!r} is not named by the hash of its uid. Nothing was imported.")
    return run


def _check_whole(source: Path, runs: Sequence[Portable], sizes: Mapping[str, int]) -> None:
    sweeps = sum(run.role == "sweep" for run in runs)
    if sweeps != 1:
        raise ValueError(f"{source} holds {sweeps} sweeps; it must hold 1. Nothing was imported.")
    wanted = {f"files/{sha}" for run in runs for sha in run.artifacts.values()}
    there = {name for name in sizes if name.startswith("files/")}
    for name in sorted(wanted ^ there):
        rule = "belongs to no run" if name in there else "is an artifact of a run but not in the archive"
        raise ValueError(f"{source}: member {name!r} {rule}. Nothing was imported.")


def known_runs(store: Store, results_dir: Path, uids: Sequence[str]) -> dict[str, str]:
    """uid -> signature of those that this results folder or the store holds."""
    wanted = set(uids)
    local = [read_json(folder / IDENTITY) or {} for folder in run_folders(results_dir)]
    found = {one["uid"]: one["signature"] for one in local if one.get("uid") in wanted}
    if store.database is not None and not store.database.exists():
        return found
    reader = Reader(store)
    for uid in uids:
        if uid not in found:
            for run in reader.having({names.UID: uid}, limit=1):
                found[uid] = run.tags.get(names.SIGNATURE, "")
    return found


def _write(run: Portable, place: Path, *, sha: str, sweep_signature: str) -> Path:
    """The run's folder under `place`, as recording here would have left it. It holds no result.json: what was
    trained elsewhere does not stand for a run of this machine."""
    is_sweep = run.role == "sweep"
    tags = {**run.tags, IMPORTED: sha}
    if is_sweep:  # a sweep's signature is made of its name, which another sweep here may have
        run, tags = replace(run, signature=sweep_signature), {**tags, names.SIGNATURE: sweep_signature}
    folder = place / ("sweeps" if is_sweep else "runs") / f"imported-{run.key}"
    files = {artifact: place / "files" / file_sha for artifact, file_sha in run.artifacts.items()}
    write_folder(folder, replace(run, tags=tags), files, parent=None if is_sweep else sweep_signature)
    return folder


def write_folder(folder: Path, run: Portable, files: Mapping[str, Path], *, parent: str | None) -> list[bytes]:
    """Identity, artifacts (`files`, by their path) and journal of `run`; the journal's lines."""
    for path, source in files.items():
        target = folder / ARTIFACTS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    folder.mkdir(parents=True, exist_ok=True)
    identity = {
        "uid": run.uid,
        "signature": run.signature,
        "name": clean(run.name),
        "role": run.role,
        "sweep": run.tags.get(names.SWEEP, ""),
        "variant": run.tags.get(names.VARIANT, ""),
        "parent": parent,
        "params": dict(run.params),
        "tags": dict(run.tags),
    }
    write_json_atomic(folder / IDENTITY, identity)
    lines = [encode(record) for record in journal_of(run, parent=parent, folder=ARTIFACTS)]
    with (folder / JOURNAL).open("wb") as file:
        file.write(b"".join(lines))
        file.flush()
        os.fsync(file.fileno())
    return lines


def _extend(sweep: Portable, results_dir: Path, *, sha: str) -> list[Path]:
    """Let a sweep that was imported before know the runs that have come since. One that was run here keeps its own
    list."""
    folder = results_dir / "sweeps" / f"imported-{sweep.key}"
    if not (folder / JOURNAL).exists():
        return []
    journal = Journal(folder / JOURNAL)
    try:
        members = {key: value for key, value in sweep.tags.items() if key.startswith(names.MEMBERS)}
        journal.append("tags", {**members, IMPORTED: sha})
        journal.append("status", {"status": sweep.status, "reason": sweep.reason}, durable=True)
    finally:
        journal.close()
    return [folder]


def _move(folder: Path, results_dir: Path) -> Path:
    place = results_dir / folder.parent.name / folder.name
    place.parent.mkdir(exist_ok=True)
    return folder.rename(place)


def _send(folders: Sequence[Path], store: Store) -> tuple[str, bool]:
    """(id of the sweep's own run in the store, whether all is there)."""
    if not folders:
        return "", True
    mirror = Mirror(store.uri, store.artifact_root, store.experiment)
    try:
        for folder in folders:
            mirror.watch(folder)
        complete = mirror.flush(FLUSH_S)
        found = mirror.locate(folders[0]) if folders[0].parent.name == "sweeps" else None
        return (found.run_id if found else "", complete)
    finally:
        mirror.close(timeout_s=0.0)

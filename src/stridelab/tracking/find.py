"""Read runs and sweeps back from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from stridelab import names

from .mlflow_reader import Reader, RunRecord
from .settings import redact
from .store import Store

LISTED = 8


@dataclass(frozen=True)
class SweepRecord:
    run_id: str
    name: str
    note: str
    """Markdown."""
    tags: Mapping[str, str]
    runs: tuple[RunRecord, ...]
    """In the sweep's order; of a run that was trained again, the last."""
    run: RunRecord
    """The sweep's own run, which the others hang under and the report is attached to."""


def find_sweep(store: Store, wanted: str = "latest") -> SweepRecord:
    """By name, by run id, or the latest. ValueError lists the recent ones."""
    reader = Reader(store)
    sweeps = reader.having({names.ROLE: "sweep"})
    for sweep in sweeps:
        if wanted in ("latest", sweep.run_id, sweep.tags.get(names.SWEEP), sweep.name):
            return _load(reader, sweep)
    raise ValueError(_not_found("sweep", wanted, sweeps, store))


def find_run(store: Store, wanted: str = "latest") -> RunRecord:
    """By run id, signature or name, or the latest. ValueError lists the recent ones."""
    reader = Reader(store)
    role = {names.ROLE: "run"}
    found: list[RunRecord] = []
    if wanted == "latest":
        found = reader.having(role, limit=1)
    elif names.SIGNATURE_RULE.fullmatch(wanted):
        found = reader.having({}, run_id=wanted, limit=1)
        found = found or reader.having(role | {names.SIGNATURE: wanted}, limit=1)
    found = found or [run for run in reader.having(role) if run.name == wanted]
    if found:
        return found[0]
    raise ValueError(_not_found("run", wanted, reader.having(role, limit=LISTED), store))


def _load(reader: Reader, sweep: RunRecord) -> SweepRecord:
    children = reader.having({names.PARENT_RUN: sweep.run_id})
    runs = {run.tags.get(names.SIGNATURE, run.run_id): run for run in reversed(children)}
    members = _members(sweep.tags)
    for signature in members:
        if signature not in runs:  # trained by another sweep
            for run in reader.having({names.SIGNATURE: signature}, limit=1):
                runs[signature] = run
    chosen = [runs[signature] for signature in members if signature in runs] if members else list(runs.values())
    reader.group = [run.run_id for run in chosen]
    name = sweep.tags.get(names.SWEEP) or sweep.name
    return SweepRecord(sweep.run_id, name, sweep.tags.get(names.NOTE, ""), sweep.tags, tuple(chosen), sweep)


def _members(tags: Mapping[str, str]) -> list[str]:
    """The signatures that `Run.members` wrote."""
    parts = [
        (int(key.removeprefix(names.MEMBERS)[1:] or 0), tags[key]) for key in tags if key.startswith(names.MEMBERS)
    ]
    return [
        signature
        for _, part in sorted(parts)
        for signature in part.split(",")
        if names.SIGNATURE_RULE.fullmatch(signature)
    ]


def _not_found(what: str, wanted: str, recent: Sequence[RunRecord], store: Store) -> str:
    where = f"in {redact(store.uri)}, experiment {store.experiment}"
    if not recent:
        return f"{what}={wanted}: there is no {what} yet {where}."
    listed = "".join(f"\n  {_when(one.start_ms)}  {one.run_id}  {one.name}" for one in recent[:LISTED])
    return f"{what}={wanted} is not {where}. The most recent, by date, id and name:{listed}"


def _when(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000):%Y-%m-%d %H:%M}"

"""Runs that the store has finished and this results folder does not hold: taken from there, not trained again."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape

from stridelab import names
from stridelab.run import RunSpec
from stridelab.tracking.journal import JOURNAL
from stridelab.tracking.mlflow_reader import RunRecord
from stridelab.tracking.restore import Recall, restore
from stridelab.tracking.settings import redact
from stridelab.tracking.signature import code_digest
from stridelab.tracking.store import Store

from .agenda import Agenda

Stored = Mapping[str, RunRecord]
"""Signature of a run -> the run in the store that stands for it."""


def ask_store(agenda: Agenda, recall: Recall, console: Console) -> Stored:
    """Once, for all that nobody has begun here. A store that is away holds up nothing: the runs are trained."""
    any_code = bool(agenda.specs) and agenda.specs[0].config.reuse == "any"
    specs = [spec for spec in agenda.to_do if may_be_elsewhere(spec)]
    wanted = {spec.identity.signature: key_of(spec, any_code=any_code) for spec in specs}
    tag = names.SCIENCE if any_code else names.SIGNATURE
    try:
        found = recall.finished(set(wanted.values()), tag=tag, code="" if any_code else code_digest())
    except ValueError as error:
        said = escape(redact(str(error)))
        console.print(f"[yellow]The tracking store could not be asked for finished runs[/] ({said}).")
        return {}
    return {signature: found[key] for signature, key in wanted.items() if key in found}


def may_be_elsewhere(spec: RunSpec) -> bool:
    """Nobody has begun it here, and where it was trained does not matter."""
    return not spec.config.force and spec.config.reuse != "none" and not (spec.folder / JOURNAL).exists()


def key_of(spec: RunSpec, *, any_code: bool) -> str:
    return spec.identity.tags[names.SCIENCE] if any_code else spec.identity.signature


def fetch(agenda: Agenda, stored: Stored, store: Store, console: Console) -> int:
    """Give each of these runs its folder; how many have one now."""
    if not stored:
        return 0
    specs = {spec.identity.signature: spec for spec in agenda.to_do}
    count = 0
    with console.status(f"fetching {len(stored)} finished runs from the tracking store ..."):
        for signature, record in stored.items():
            spec = specs[signature]
            folder = spec.config.results / "runs" / record.tags[names.SIGNATURE]
            try:
                count += restore(record, folder, store=store)
            except (ValueError, OSError) as error:
                said = escape(redact(str(error)))
                console.print(f"{escape(spec.identity.name)} is in the store but not whole ({said}); it is trained.")
    if count:
        runs = "run was" if count == 1 else "runs were"
        console.print(f"{count} {runs} finished in the tracking store already; fetched, not trained again.")
    return count

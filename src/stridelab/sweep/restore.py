"""Runs that the store has finished and this results folder does not hold: taken from there, not trained again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from stridelab.run import Work
from stridelab.tracking import names
from stridelab.tracking.journal import JOURNAL
from stridelab.tracking.mlflow_reader import RunRecord
from stridelab.tracking.restore import Recall, restore
from stridelab.tracking.settings import redact
from stridelab.tracking.signature import code_digest
from stridelab.tracking.store import Store

from .agenda import Agenda

Stored = Mapping[str, RunRecord]
"""Signature of a work -> the run in the store that stands for it."""


def ask_store(agenda: Agenda, recall: Recall, console: Console) -> Stored:
    """Once, for all that nobody has begun here. A store that is away holds up nothing: the runs are trained."""
    any_code = bool(agenda.works) and agenda.works[0].config.reuse == "any"
    works = [work for work in agenda.to_do if may_be_elsewhere(work)]
    wanted = {work.identity.signature: key_of(work, any_code=any_code) for work in works}
    tag = names.SCIENCE if any_code else names.SIGNATURE
    try:
        found = recall.finished(set(wanted.values()), tag=tag, code="" if any_code else code_digest())
    except ValueError as error:
        said = escape(redact(str(error)))
        console.print(f"[yellow]The tracking store could not be asked for finished runs[/] ({said}).", highlight=False)
        return {}
    return {signature: found[key] for signature, key in wanted.items() if key in found}


def may_be_elsewhere(work: Work) -> bool:
    """Nobody has begun it here, and where it was trained does not matter."""
    return not work.config.force and work.config.reuse != "none" and not (work.folder / JOURNAL).exists()


def key_of(work: Work, *, any_code: bool) -> str:
    return work.identity.tags[names.SCIENCE] if any_code else work.identity.signature


def fetch(agenda: Agenda, stored: Stored, store: Store, console: Console) -> int:
    """Give each of these runs its folder; how many have one now."""
    if not stored:
        return 0
    works = {work.identity.signature: work for work in agenda.to_do}
    count = 0
    with console.status(f"fetching {len(stored)} finished runs from the tracking store ..."):
        for signature, record in stored.items():
            work = works[signature]
            folder = Path(work.config.paths.results_dir) / "runs" / record.tags[names.SIGNATURE]
            try:
                count += restore(record, folder, store=store)
            except (ValueError, OSError) as error:
                said = escape(redact(str(error)))
                console.print(
                    f"{escape(work.identity.name)} is in the store but not whole ({said}); it is trained.",
                    highlight=False,
                )
    if count:
        runs = "run was" if count == 1 else "runs were"
        console.print(f"{count} {runs} finished in the tracking store already; fetched, not trained again.")
    return count

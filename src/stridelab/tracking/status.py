"""How runs ended, and what to write down for those that could not say."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

from stridelab import names
from stridelab.system.files import read_json
from stridelab.training import Result

from .journal import JOURNAL, TERMINAL, Journal, damage, first, is_live, last, records
from .run import IDENTITY, read_identity
from .staging import clear

RESULT = "result.json"
"""Written last by whoever trains: the mark of completion."""
IMPORTED_PREFIX = "imported-"
"""Of folders of runs that came in an archive."""
FINISHED, FAILED, REFUSED, DIVERGED = "finished", "failed", "refused", "diverged"
OUT_OF_MEMORY, TIMED_OUT, KILLED, BUSY = "out of memory", "timed out", "killed", "busy"
STATUSES = (FINISHED, FAILED, REFUSED, DIVERGED, OUT_OF_MEMORY, TIMED_OUT, KILLED)
"""How a run ended, in the tag `stridelab.status`. busy: another process is at it."""


ALLOCATION_FAILED = ("can't allocate memory", "out of memory", "STATUS_ALLOC_FAILED")
"""What PyTorch says on a CPU, of a GPU, and of cuBLAS and cuDNN there."""


def status_of(error: BaseException) -> str:
    """Which of the words fits an exception. PyTorch's allocators raise RuntimeErrors."""
    text = str(error)
    match error:
        case FloatingPointError() if text.startswith("diverged"):
            return DIVERGED
        case MemoryError():
            return OUT_OF_MEMORY
        case RuntimeError() if any(words in text for words in ALLOCATION_FAILED):
            return OUT_OF_MEMORY
        case BlockingIOError():
            return BUSY
        case OSError(errno=errno.ENOMEM):
            return OUT_OF_MEMORY
        case KeyboardInterrupt() | SystemExit():
            return KILLED
    return FAILED


def read_status(folder: Path) -> tuple[str, str]:
    """(status, reason): FINISHED, FAILED or KILLED with its reason, RUNNING (or cut off while running), or
    empty when nothing was ever recorded."""
    record = last(folder / JOURNAL, "status")  # more may follow: of a run that is going on, or was amended
    return (record.data["status"], record.data["reason"]) if record else ("", "")


def read_tag(folder: Path, key: str) -> str:
    """The last value of a tag in the journal; empty when there is none."""
    found = [record.data[key] for record in records(folder / JOURNAL) if record.kind == "tags" and key in record.data]
    return found[-1] if found else ""


def read_result(folder: Path) -> dict[str, Any] | None:
    """What a finished run left; None when it has not finished, or its file is not whole."""
    content = read_json(folder / RESULT)
    known = [field.name for field in fields(Result)]
    sound = isinstance(content, dict) and content.keys() >= {*known} and isinstance(content["metrics"], dict)
    return {key: content[key] for key in known} if sound else None  # earlier versions wrote more


def set_aside_bad_result(folder: Path) -> str:
    """Rename a `result.json` that is no result (a power cut leaves an empty one, a bad disk half of one); what was
    done about it, empty when nothing was."""
    path = folder / RESULT
    if not path.exists() or read_result(folder) is not None:
        return ""
    path.replace(path.with_name(f"{RESULT}.bad"))
    return f"{path} was no whole result; it is put aside as {RESULT}.bad, and the run goes on."


def settle(folder: Path, *, status: str, reason: str, tags: Mapping[str, str] | None = None) -> bool:
    """Record how a run ended whose process died without a word; one that left its result is finished, whatever killed
    it. False when it did say, or is alive."""
    assert status in TERMINAL, status
    done = read_result(folder) is not None
    if not is_open(folder, done=done) or is_live(folder / JOURNAL):
        return False
    try:
        journal = Journal(folder / JOURNAL)
    except BlockingIOError:
        return False
    with closing(journal):
        if done:
            status, reason, tags = "FINISHED", "", {names.STATUS: FINISHED}
            journal.append("artifact", {"path": RESULT, "to": ""})
        if tags:
            journal.append("tags", tags)
        journal.append("status", {"status": status, "reason": reason}, durable=True)
    return True


def is_open(folder: Path, *, done: bool) -> bool:
    """Whether the last word on a run is missing."""
    status = read_status(folder)[0]
    return status == "RUNNING" or (done and status != "FINISHED")


def repair(results_dir: Path) -> list[Path]:
    """Settle every run that was cut off: FINISHED if it left its result, else KILLED. The folders settled."""
    clear(results_dir)
    reason, tags = "its process ended without a word", {names.STATUS: KILLED}
    return [folder for folder in run_folders(results_dir) if settle(folder, status="KILLED", reason=reason, tags=tags)]


def put_aside_damaged(results_dir: Path) -> list[str]:
    """A damaged journal becomes `journal.jsonl.bad`, a damaged identity `run.json.bad`, and the run is to do again,
    from its last checkpoint where there is one; an imported run's folder becomes `<name>.bad`, to be imported again.
    What was done, for a person."""
    said = []
    for folder in run_folders(results_dir):
        file, reason = _damaged(folder)
        if reason and not is_live(folder / JOURNAL):
            if folder.name.startswith(IMPORTED_PREFIX):
                aside = _free(folder.with_name(f"{folder.name}.bad"))
                folder.rename(aside)
                said.append(f"{reason} It is put aside as {aside}; import it again.")
                continue
            for name in (file, RESULT):
                if (folder / name).exists():
                    (folder / name).rename(_free(folder / f"{name}.bad"))
            said.append(f"{reason} It is put aside as {file}.bad; the next sweep trains the run again.")
    return said


def _damaged(folder: Path) -> tuple[str, str]:
    """Which file, and why; the reason is empty where there is nothing."""
    if reason := damage(folder / JOURNAL):
        return JOURNAL, reason
    unknown = first(folder / JOURNAL) is not None and not read_identity(folder)
    return IDENTITY, f"{folder / IDENTITY} is damaged: it does not tell which run this is." if unknown else ""


def _free(path: Path) -> Path:
    number = 1
    while (free := path if number == 1 else path.with_name(f"{path.name}{number}")).exists():
        number += 1
    return free


def run_folders(results_dir: Path) -> list[Path]:
    """Folders that hold a journal, sweeps first."""
    return [path.parent for kind in ("sweeps", "runs") for path in sorted(results_dir.glob(f"{kind}/*/{JOURNAL}"))]

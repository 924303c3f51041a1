"""How runs ended, and what to write down for those that could not say."""

from __future__ import annotations

from pathlib import Path

from .journal import JOURNAL, Journal, is_live, last

RESULT = "result.json"
"""Written last by whoever trains: the mark of completion."""
TERMINAL = ("FINISHED", "FAILED", "KILLED")


def read_status(folder: Path) -> tuple[str, str]:
    """(status, reason): FINISHED, FAILED or KILLED with its reason, RUNNING (or cut off while running), or
    empty when nothing was ever recorded."""
    record = last(folder / JOURNAL)
    if record is None:
        return "", ""
    if record.kind == "status":
        return record.data["status"], record.data["reason"]
    return "RUNNING", ""


def settle(folder: Path, *, status: str, reason: str) -> bool:
    """Record how a run ended whose process died without a word. False when it did say, or is alive."""
    assert status in TERMINAL, status
    if read_status(folder)[0] != "RUNNING" or is_live(folder / JOURNAL):
        return False
    try:
        journal = Journal(folder / JOURNAL)
    except BlockingIOError:
        return False
    try:
        journal.append("status", {"status": status, "reason": reason}, durable=True)
    finally:
        journal.close()
    return True


def repair(results_dir: Path) -> list[Path]:
    """Settle every run that was cut off: FINISHED if it left its result, else KILLED. The folders settled."""
    return [folder for folder in run_folders(results_dir) if _repair(folder)]


def _repair(folder: Path) -> bool:
    if (folder / RESULT).exists():
        return settle(folder, status="FINISHED", reason="")
    return settle(folder, status="KILLED", reason="its process ended without a word")


def run_folders(results_dir: Path) -> list[Path]:
    """Folders that hold a journal, sweeps first."""
    return [path.parent for kind in ("sweeps", "runs") for path in sorted(results_dir.glob(f"{kind}/*/{JOURNAL}"))]

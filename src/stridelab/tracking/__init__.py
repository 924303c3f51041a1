"""Runs are kept here: a journal for each, mirrored into MLflow (which is imported where it is called)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .provenance import provenance, torch_facts  # at once: a function named as its file is hidden by it later
from .settings import TrackingConfig, redact
from .signature import code_digest, signature

if TYPE_CHECKING:
    from .amending import amend
    from .files import write_json_atomic
    from .links import run_link, sweep_link, sweep_note, ui_base, ui_command
    from .mirror import Mirror, sync
    from .query import SweepRecord, find_run, find_sweep
    from .reader import RunRecord
    from .recall import Recall, restore
    from .run import Run, RunIdentity, open_run
    from .status import RESULT, read_status, read_tag, repair, settle, status_of
    from .store import Store, analyze, modules_for, resolve_store

__all__ = [
    "RESULT",
    "Mirror",
    "Recall",
    "Run",
    "RunIdentity",
    "RunRecord",
    "Store",
    "SweepRecord",
    "TrackingConfig",
    "amend",
    "analyze",
    "code_digest",
    "find_run",
    "find_sweep",
    "modules_for",
    "open_run",
    "provenance",
    "read_status",
    "read_tag",
    "redact",
    "repair",
    "resolve_store",
    "restore",
    "run_link",
    "settle",
    "signature",
    "status_of",
    "sweep_link",
    "sweep_note",
    "sync",
    "torch_facts",
    "ui_base",
    "ui_command",
    "write_json_atomic",
]

_LATER = {
    ".amending": "amend",
    ".files": "write_json_atomic",
    ".links": "run_link sweep_link sweep_note ui_base ui_command",
    ".mirror": "Mirror sync",
    ".query": "SweepRecord find_run find_sweep",
    ".reader": "RunRecord",
    ".recall": "Recall restore",
    ".run": "Run RunIdentity open_run",
    ".status": "RESULT read_status read_tag repair settle status_of",
    ".store": "Store analyze modules_for resolve_store",
}
_FILE = {name: file for file, names in _LATER.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _FILE:
        return getattr(import_module(_FILE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

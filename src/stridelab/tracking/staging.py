"""Folders in the making: hidden, on the disk of the results, locked by whoever fills them, removed when nobody does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from stridelab.system.locks import Lock

PREFIX = ".import-"
LOCK = ".lock"


@contextmanager
def scratch(results_dir: Path) -> Iterator[Path]:
    """An empty folder but for a hidden file, gone afterwards; those of processes that were killed go first."""
    results_dir.mkdir(parents=True, exist_ok=True)
    clear(results_dir)
    folder, lock = _locked_folder(results_dir)
    try:
        yield folder
    finally:
        lock.release()
        shutil.rmtree(folder, ignore_errors=True)


def clear(results_dir: Path) -> None:
    """Remove the folders of processes that died."""
    for folder in results_dir.glob(f"{PREFIX}*"):
        lock = Lock(folder / LOCK)
        with suppress(OSError):
            if not folder.is_symlink() and lock.acquire():
                lock.release()
                shutil.rmtree(folder)


def _locked_folder(results_dir: Path) -> tuple[Path, Lock]:
    while True:
        folder = Path(mkdtemp(prefix=PREFIX, dir=results_dir))
        lock = Lock(folder / LOCK)
        with suppress(OSError):  # between the two calls, another process may have taken it for abandoned
            if lock.acquire() and lock.path.exists():
                return folder, lock
        lock.release()

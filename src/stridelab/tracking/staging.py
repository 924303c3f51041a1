"""Folders in the making: hidden, on the disk of the results, locked by whoever fills them, removed when nobody does."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

PREFIX = ".import-"


@contextmanager
def scratch(results_dir: Path) -> Iterator[Path]:
    """An empty folder, gone afterwards; those of processes that were killed go first."""
    results_dir.mkdir(parents=True, exist_ok=True)
    clear(results_dir)
    folder, lock = _locked_folder(results_dir)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def clear(results_dir: Path) -> None:
    """Remove the folders of processes that died."""
    for folder in results_dir.glob(f"{PREFIX}*"):
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)


def _locked_folder(results_dir: Path) -> tuple[Path, int]:
    while True:
        folder = Path(mkdtemp(prefix=PREFIX, dir=results_dir))
        lock = -1
        with suppress(OSError):  # between the two calls, another process may have taken it for abandoned
            lock = os.open(folder, os.O_RDONLY)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if folder.exists():
                return folder, lock
        if lock >= 0:
            os.close(lock)

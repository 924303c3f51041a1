"""What a node must share with this machine to train here what is asked there, in words for whoever has to mend it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stridelab.system.locks import Lock

NO_FOLDER = "the folder {}, in which the command was started, is not there; start it in one that is shared"
NOT_SHARED = "paths.results_dir is not shared: {} is another folder there; give one that is"
NO_LOCKS = "locks in {} do not hold between machines; mount it with them, or give another folder"
NO_PYTHON = "{}, the Python of this command, is not there; install it in a folder that is shared"
OTHER_CODE = "its stridelab is another ({}, here {}); install the same version"
TOKEN = ".stridelab-shared"


@contextmanager
def token(launcher: str, results: Path) -> Iterator[Path]:
    """A file that is locked by this process, in the results folder or the first folder above that is there."""
    there = next(folder for folder in (results.absolute(), *results.absolute().parents) if folder.is_dir())
    lock = Lock(there / f"{TOKEN}.{socket.gethostname()}.{os.getpid()}")
    if not lock.acquire():
        raise ValueError(
            f"launcher={launcher}: {lock.path} is held by another process; remove it when none is running."
        )
    try:
        yield lock.path
    finally:
        lock.release()
        lock.path.unlink(missing_ok=True)

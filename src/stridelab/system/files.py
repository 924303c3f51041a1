"""Files that are whole or absent, whatever is killed while they are written."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PARTIAL = ".partial"
"""The end of the name of a file that is being written, or whose writer was killed."""


@contextmanager
def replacement(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """A new file beside `path`, to be written in the block. At its end it takes the place of `path` in one step; on an
    exception it vanishes, and `path` stays as it was. `durable`: it also outlives a power cut, for two disk flushes."""
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}{PARTIAL}")
    try:
        yield new
        if durable:
            with new.open("rb+") as file:
                os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    if durable:
        flush_folder(path.parent)


def write_atomic(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """See `replacement`; text is UTF-8, its line ends stay."""
    with replacement(path, durable=durable) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json_atomic(path: Path, value: object, *, durable: bool = True) -> None:
    """See `replacement`. A TypeError for what is not JSON comes before anything is touched."""
    write_atomic(path, json.dumps(value, indent=1) + "\n", durable=durable)


def read_json(path: Path) -> Any:
    """The content, or None when the file is absent or not JSON (a power cut may leave an empty one)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_folder(folder: Path) -> None:
    """Make new names in `folder` outlive a power cut; Windows opens no folders, and needs no flush of them."""
    with suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

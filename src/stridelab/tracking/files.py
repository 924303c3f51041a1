"""JSON files that are whole or absent, whatever is killed while they are written."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any


def write_json_atomic(path: Path, value: object, *, durable: bool = True) -> None:
    """Replace `path` in one step; `durable`: it also outlives a power cut, for two disk flushes."""
    text = json.dumps(value, indent=1) + "\n"  # before anything is touched: a TypeError leaves no trace
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        flush_folder(path.parent)


def read_json(path: Path) -> Any:
    """The content, or None when the file is absent or not JSON (a power cut may leave an empty one)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def flush_folder(folder: Path) -> None:
    """Make new names in `folder` outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

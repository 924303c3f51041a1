"""Files of torch.save that carry their own SHA-256, in the comment of the zip archive that they are: any reader of
such files reads them, and one file is whole or is found out. No torch here."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from .faults import point

_MARK = b"sha256:"
_LENGTH = len(_MARK) + 64
_NO_COMMENT = b"\0\0"
_WITH_COMMENT = _LENGTH.to_bytes(2, "little")


def seal(archive: bytes) -> bytes:
    assert archive[-22:-18] == b"PK\5\6", "a zip archive without a comment"
    return archive[:-2] + _WITH_COMMENT + _MARK + hashlib.sha256(archive).hexdigest().encode()


def read_sealed(path: Path) -> bytes:
    """The archive as it was before it was sealed; ValueError when a single bit of it differs."""
    content = path.read_bytes()
    archive, comment = content[: -_LENGTH - 2] + _NO_COMMENT, content[-_LENGTH:]
    if content[-_LENGTH - 2 : -_LENGTH] != _WITH_COMMENT or not comment.startswith(_MARK):
        raise ValueError(f"{path} is cut off, or is not a checkpoint of Stridelab: it does not end in its checksum.")
    if hashlib.sha256(archive).hexdigest().encode() != comment[len(_MARK) :]:
        raise ValueError(f"{path} is damaged: its content does not have its checksum.")
    return archive


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that a reader sees the old file or the new one, never a part, also after a power
    cut. OSError says how much was to be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + PARTIAL)
    try:
        with partial.open("wb") as file:
            point("checkpoint.opened")
            file.write(content)
            file.flush()
            point("checkpoint.written")
            os.fsync(file.fileno())
        point("checkpoint.flushed")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        error.add_note(f"while writing {len(content)} bytes to {path}")
        raise
    point("checkpoint.renamed")
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


PARTIAL = ".partial"

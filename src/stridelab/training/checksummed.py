"""Files of torch.save that carry their own SHA-256, in the comment of the zip archive that they are: any reader of
such files reads them, and one file is whole or is found out. No torch here."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

_MARK = b"sha256:"
_LENGTH = len(_MARK) + 64
_NO_COMMENT = b"\0\0"
_WITH_COMMENT = _LENGTH.to_bytes(2, "little")


def seal(archive: bytes) -> bytes:
    assert archive[-22:-18] == b"PK\5\6", "a zip archive without a comment"
    return archive[:-2] + _WITH_COMMENT + _MARK + hashlib.sha256(archive).hexdigest().encode()


MOST_BYTES = 8 << 30
"""Of a checkpoint: far more than any network here has."""


def refuse_other_files(path: Path) -> None:
    """ValueError, from the file's kind, size and last bytes, before all of it is read: a device never ends, a pipe
    never begins."""
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError(f"{path} is not a file.")
    if state.st_size > MOST_BYTES:
        raise ValueError(f"{path} has {state.st_size:,} bytes; a checkpoint has at most {MOST_BYTES:,}.")
    with path.open("rb") as file:
        file.seek(max(0, state.st_size - _LENGTH - 2))
        if not file.read(2 + len(_MARK)).startswith(_WITH_COMMENT + _MARK):
            raise ValueError(f"{path} is cut off, or is no checkpoint of Stridelab: it does not end in its checksum.")


def read_sealed(path: Path) -> bytes:
    """The archive as it was before it was sealed; ValueError when a single bit of it differs."""
    refuse_other_files(path)
    content = path.read_bytes()
    archive, comment = content[: -_LENGTH - 2] + _NO_COMMENT, content[-_LENGTH:]
    if hashlib.sha256(archive).hexdigest().encode() != comment[len(_MARK) :]:
        raise ValueError(f"{path} is damaged: its content does not have its checksum.")
    return archive

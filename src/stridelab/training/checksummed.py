"""Files of torch.save that carry their own SHA-256, in the comment of the zip archive that they are: any reader of
such files reads them, and one file is whole or is found out. No torch here."""

from __future__ import annotations

import hashlib
from pathlib import Path

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

"""The members of an archive that nobody can be trusted to have made: described one by one, each a plain file or not."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

CHUNK_BYTES = 1 << 18
HEADER_BYTES = 32 << 20
"""What is read at once at most: a zip's directory of 200,000 files is smaller."""


@dataclass(frozen=True)
class Entry:
    """One member, as the archive describes it."""

    name: str
    size: int
    problem: str
    """Why it is not a plain file; empty when it is."""
    open: Callable[[], IO[bytes]]


class _Bounded(io.RawIOBase):
    """Never more than HEADER_BYTES at once, so that no header can fill the memory; with `limit`, forwards only and no
    further than it, so that no bomb can run for ever and no header can lead back to itself."""

    def __init__(self, source: Any, *, limit: int | None) -> None:
        self.source, self.limit = source, limit
        self._end = source.seek(0, io.SEEK_END) if limit is None else 0

    def read(self, size: int = -1) -> bytes:
        if size < 0 and self.limit is None:  # zipfile reads its directory's end so
            size = max(0, self._end - self.source.tell())
        if not 0 <= size <= HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size:,} bytes; {HEADER_BYTES:,} are the most")
        self._keep_within(self.source.tell())
        found: bytes = self.source.read(size)
        return found

    def seek(self, offset: int, whence: int = 0) -> int:
        if self.limit is not None:
            if whence or offset < self.source.tell():
                raise tarfile.ReadError("a header that leads back")
            self._keep_within(offset)
        if not whence and offset < 0:
            raise zipfile.BadZipFile("a directory that leads outside the file")
        return int(self.source.seek(offset, whence))

    def _keep_within(self, position: int) -> None:
        if self.limit is not None and position > self.limit:
            raise tarfile.ReadError(f"it unpacks to more than {self.limit:,} bytes, which are the most")

    def tell(self) -> int:
        return int(self.source.tell())

    def seekable(self) -> bool:
        return True


def entries(file: IO[bytes], *, limit: int) -> Iterator[Entry]:
    """Of a .tar.gz or .zip, told apart by its first bytes; at most `limit` bytes are unpacked of a .tar.gz."""
    start = file.read(4)
    file.seek(0)
    if start == b"PK\3\4":
        return _zip_entries(file)
    if start.startswith(b"\x1f\x8b"):
        return _tar_entries(file, limit=limit)
    raise zipfile.BadZipFile("neither a .tar.gz nor a .zip")


def _tar_entries(file: IO[bytes], *, limit: int) -> Iterator[Entry]:
    with gzip.GzipFile(fileobj=file, mode="rb") as plain:
        bounded: Any = _Bounded(plain, limit=limit)
        with tarfile.open(fileobj=bounded, mode="r:") as tar:
            for member in tar:
                yield Entry(member.name, member.size, _tar_problem(member), partial(_opened, tar, member))
            while rest := bounded.read(CHUNK_BYTES):  # to the end, where gzip's own checksum is
                if rest.strip(b"\0"):
                    raise tarfile.ReadError("something follows its end")


def _opened(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    found = tar.extractfile(member)
    assert found is not None, "a plain file"
    return found


TAR_KINDS = {
    tarfile.DIRTYPE: "a folder",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def _tar_problem(member: tarfile.TarInfo) -> str:
    if member.pax_headers or member.sparse:
        return "a file with extended headers"
    return "" if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE) else TAR_KINDS.get(member.type, "no plain file")


def _zip_entries(file: IO[bytes]) -> Iterator[Entry]:
    bounded: Any = _Bounded(file, limit=None)
    with zipfile.ZipFile(bounded) as zipped:
        for info in zipped.infolist():
            # zipfile changes names (it cuts them at NUL): the original counts.
            yield Entry(info.orig_filename, info.file_size, _zip_problem(info), partial(zipped.open, info))


def _zip_problem(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG) or info.is_dir():
        return {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder"}.get(kind, "no plain file")
    if info.flag_bits & 1:
        return "encrypted"
    return "" if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) else "packed in another way"

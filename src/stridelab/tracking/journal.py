"""The journal of a run: append-only, one checksummed JSON record a line. It is the truth."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stridelab.system.files import write_atomic
from stridelab.system.locks import Lock, holder, is_locked

JOURNAL = "journal.jsonl"
TERMINAL = ("FINISHED", "FAILED", "KILLED")
LOCK = ".journal.lock"
"""Held by the writer; beside the journal, for Windows lets nobody read a file that is locked."""
KINDS = ("metrics", "params", "tags", "image", "artifact", "dataset", "status")

ADVICE = " Restore the file, or move the run's folder away to train it anew."
_CHECKSUM = b',"crc32":"%08x"}\n'
_BEGINNING = b'{"seq":'
_CHECKSUM_LENGTH = len(_CHECKSUM % 0)
_LOCK_TRIES = 20  # a probe by `is_live` holds the lock for microseconds
_LOCK_PAUSE_S = 0.01
_BINARY: int = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_TAIL_BYTES = 1 << 16

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Record:
    seq: int
    """1, 2, 3 ... in one journal, through all interruptions."""
    kind: str
    """One of KINDS."""
    ms: int
    """Wall clock, Unix epoch, in ms; never less than in the record before."""
    data: dict[str, Any]


def attached(records: Iterable[Record]) -> dict[str, str]:
    """Name among a run's artifacts -> path in its folder, a file's or a folder's; of one name the last counts."""
    places = [(one.data["to"], PurePosixPath(one.data["path"])) for one in records if one.kind == "artifact"]
    return {str(PurePosixPath(to, path.name)): str(path) for to, path in places}


def merged(records: Iterable[Record], kind: str) -> dict[str, str]:
    """What records of tags or parameters say together; of one key the last counts."""
    return {key: value for one in records if one.kind == kind for key, value in one.data.items()}


def encode(record: Record) -> bytes:
    """One line. Values must be JSON without NaN: see `pack_number`."""
    fields = {"seq": record.seq, "kind": record.kind, "ms": record.ms, "data": record.data}
    body = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()
    return body[:-1] + _CHECKSUM % zlib.crc32(body)


def decode(line: bytes) -> Record | None:
    """The record of a whole line with its newline, or None when anything about it is wrong."""
    body = line[:-_CHECKSUM_LENGTH] + b"}"
    if line[-_CHECKSUM_LENGTH:] != _CHECKSUM % zlib.crc32(body):
        return None
    fields = json.loads(body)
    return Record(fields["seq"], fields["kind"], fields["ms"], fields["data"])


def pack_number(value: float) -> float | str:
    """JSON knows no NaN and no infinity: these become "nan", "inf", "-inf", which float() reads back."""
    return value if value - value == 0.0 else str(value)


def scan(block: bytes, *, after: int) -> tuple[list[Record], int]:
    """The whole records at the start of `block` that follow record `after`, and the bytes they take."""
    records: list[Record] = []
    good = 0
    for line in block.splitlines(keepends=True):
        record = decode(line)
        if record is None or record.seq != after + len(records) + 1:
            break
        records.append(record)
        good += len(line)
    return records, good


def is_torn(rest: bytes) -> bool:
    """Whether what follows the last good record is what an interrupted write leaves: no whole record. One is looked for
    behind every beginning, not only behind newlines: a damaged newline would hide it."""
    parts = (_BEGINNING + part for line in rest.splitlines(keepends=True) for part in line.split(_BEGINNING))
    return all(decode(part) is None for part in parts)


def read(path: Path) -> list[Record]:
    """All records; a torn end is left out. ValueError when something in the middle is damaged or missing."""
    return _read(path)[0]


def first(path: Path) -> Record | None:
    """The first record, which says when the run began."""
    try:
        with path.open("rb") as file:
            return decode(file.readline())
    except OSError:
        return None


def last(path: Path, kind: str) -> Record | None:
    """The last whole record of a kind, read from the end: cheap when it is near."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            for start in dict.fromkeys((max(0, size - _TAIL_BYTES), 0)):
                file.seek(start)
                records = map(decode, reversed(file.read().splitlines(keepends=True)))
                if found := next((record for record in records if record and record.kind == kind), None):
                    return found
    except FileNotFoundError:
        pass
    return None


def records(path: Path) -> Iterator[Record]:
    """All whole records, whatever is damaged between them."""
    with suppress(FileNotFoundError), path.open("rb") as file:
        yield from (record for line in file if (record := decode(line)) is not None)


def damage(path: Path) -> str:
    """Why a journal cannot be read; empty when it can, be it torn at its end. Ten times as fast as `read`."""
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return ""
    if all(line[-_CHECKSUM_LENGTH:] == _CHECKSUM % zlib.crc32(line[:-_CHECKSUM_LENGTH] + b"}") for line in lines):
        return ""
    try:
        read(path)
    except ValueError as error:
        return str(error).replace(ADVICE, "")
    return ""


def _read(path: Path) -> tuple[list[Record], int]:
    try:
        block = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    records, good = scan(block, after=0)
    if not is_torn(block[good:]):
        raise ValueError(
            f"{path} is damaged after record {len(records)}: a checksum or number is wrong, and good records "
            f"follow.{ADVICE}"
        )
    return records, good


class Journal:
    """The one writer of a journal. Appending survives the death of this process at once, a power cut after
    `flush_every_s` (`status` records: at once). BlockingIOError when another process writes it."""

    def __init__(self, path: Path, *, flush_every_s: float = 5.0) -> None:
        self.path = path
        self._flush_every_s = flush_every_s
        self._flushed = time.monotonic()
        self._mutex = threading.Lock()
        self._lock, self._file = _lock(path), -1
        try:
            if self._lock.taken_over and path.exists():
                write_atomic(path, path.read_bytes())  # what the ghost appends to the file that it has open is lost
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | _BINARY, 0o666)
            self.earlier, self._size = _read(path)
            self._cut_torn_end()
        except BaseException:
            self.close()
            raise
        self._seq = len(self.earlier)
        self._ms = self.earlier[-1].ms if self.earlier else 0

    def append(self, kind: str, data: Mapping[str, Any], *, durable: bool = False) -> None:
        assert kind in KINDS, kind
        assert self._file >= 0, "the run has ended"
        self.confirm()
        with self._mutex:
            ms = max(self._ms, time.time_ns() // 1_000_000)
            self._write(encode(Record(self._seq + 1, kind, ms, dict(data))))
            self._seq, self._ms = self._seq + 1, ms
            if durable or time.monotonic() - self._flushed > self._flush_every_s:
                os.fsync(self._file)
                self._flushed = time.monotonic()

    def confirm(self) -> None:
        """BlockingIOError when a later attempt of this process's job writes the journal now: nothing more is ours."""
        self._lock.confirm()

    def close(self) -> None:
        """Flush and release; closing twice is harmless."""
        with self._mutex:
            if self._file >= 0:
                try:
                    os.fsync(self._file)
                finally:
                    os.close(self._file)
                    self._file = -1
            self._lock.release()

    def _write(self, line: bytes) -> None:
        left = line
        try:
            while left:  # a full disk takes a part and only then refuses
                left = left[os.write(self._file, left) :]
        except OSError as error:
            os.ftruncate(self._file, self._size)
            error.add_note(f"while writing {len(line)} bytes to {self.path}")
            raise
        self._size += len(line)

    def _cut_torn_end(self) -> None:
        torn = os.fstat(self._file).st_size - self._size
        if torn:
            log.warning("%s: an interrupted write left %d bytes at the end; they are cut off.", self.path, torn)
            os.ftruncate(self._file, self._size)


def is_live(path: Path) -> bool:
    """Whether a process has the journal open for writing."""
    return is_locked(path.with_name(LOCK))


def writer(path: Path) -> str:
    """Who has the journal open, or had it last: process, host and since when."""
    return holder(path.with_name(LOCK))


def _lock(path: Path) -> Lock:
    """BlockingIOError, with the holder, when another process has it."""
    lock = Lock(path.with_name(LOCK))
    for _ in range(_LOCK_TRIES):
        if lock.acquire():
            return lock
        time.sleep(_LOCK_PAUSE_S)
    raise BlockingIOError(errno.EAGAIN, f"another process is writing this run ({writer(path)})", str(path))

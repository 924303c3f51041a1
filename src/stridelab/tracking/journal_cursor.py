"""One run's folder on its way into MLflow: what has been sent, what comes next."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stridelab import names
from stridelab.system.files import read_json, write_json_atomic
from stridelab.system.locks import Lock

from .journal import JOURNAL, TERMINAL, Record, read, scan
from .mlflow_writer import Found, Writer
from .run import read_identity
from .settings import redact
from .status import read_status
from .store import Store

POSITION = "mirror.json"
LOCK = ".mirror.lock"
BLOCK_BYTES = 1 << 18
"""Sent at a time: about 1,500 records of 5 metrics. A longer record is sent whole."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0

Parents = Callable[[str], Found | None]
"""Signature of a sweep -> its run in MLflow."""

log = logging.getLogger(__name__)


def place_of(store: Store) -> str:
    """The store's and experiment's name in `mirror.json`; it tells no password."""
    return hashlib.sha256(f"{redact(store.uri)}\n{store.experiment}".encode()).hexdigest()[:16]


def saved_position(folder: Path, place: str) -> dict[str, Any]:
    """What `mirror.json` says of a run in one store; empty when it was never sent there."""
    saved = (read_json(folder / POSITION) or {}).get(place, {})
    return saved if isinstance(saved, dict) else {}


class Pause:
    """Between a failure and the next try; twice as long after every failure in a row."""

    def __init__(self) -> None:
        self.length_s = self._until = self.since = self.last = 0.0

    def is_over(self) -> bool:
        return time.monotonic() >= self._until

    def begin(self) -> None:
        self.last = time.monotonic()
        if not self.length_s:
            self.since = self.last
        self.length_s = min(max(FIRST_PAUSE_S, 2 * self.length_s), LONGEST_PAUSE_S)
        self._until = self.last + self.length_s

    def skip(self) -> None:
        self._until = 0.0

    def forget(self) -> None:
        self.length_s = self._until = 0.0


class Cursor:
    """Follows one journal. `place` names the store: `mirror.json` holds the position in each."""

    def __init__(self, folder: Path, *, place: str) -> None:
        self.folder = folder
        self.place = place
        self.offset = 0
        """Bytes of the journal that are in the store."""
        self.found: Found | None = None
        self.pause = Pause()
        self.stopped = ""
        """Why nothing more will be sent."""
        self.deleted = False
        """In the store, by somebody: it is left alone."""
        self._seq = 0
        self._saved: dict[str, Any] = {}
        self._identity: dict[str, Any] = {}
        self._inode = 0
        self._lock = Lock(folder / LOCK)

    def size(self) -> int:
        """Bytes of the journal now."""
        return self._stat()[1]

    def has_sent(self, size: int) -> bool:
        """Whether the first `size` bytes are in the store, whoever sent them, or shall not be: the run was deleted in
        the store."""
        return self.offset >= size or self.deleted

    def rewind(self) -> None:
        """Look in the store again for what it was sent, and send it what it has not."""
        self._detach()
        self.found, self._inode = None, 0

    def is_sweep(self, signature: str) -> bool:
        self._identity = self._identity or read_identity(self.folder)
        return self._identity.get("role") == "sweep" and self._identity.get("signature") == signature

    def pump(self, writer: Writer, *, parents: Parents) -> bool:
        """Send the next stretch of the journal; whether there was one."""
        if self.stopped or not self._attach():
            return False
        try:
            if self.found is None:
                self._find(writer, parents)
            records, taken = self._next()
            if not records:
                self._detach()
                return False
            self._send(records, taken, writer, parents)
        except Exception:
            self.found = None  # before the next try, see whether the run is still there
            raise
        if self.found is not None:
            self._save()
        if records[-1].data.get("status") in TERMINAL:
            self._detach()
        return True

    def close(self) -> None:
        self._detach()

    def _stat(self) -> tuple[int, int]:
        try:
            stat = (self.folder / JOURNAL).stat()
        except OSError:
            return 0, 0
        return stat.st_ino, stat.st_size

    def _attach(self) -> bool:
        """Whether there is something new, and the right to send it is ours."""
        inode, size = self._stat()
        if inode != self._inode:  # not looked at before, or the folder was emptied and begun anew
            self._detach()
            self.offset, self.found, self._identity, self._inode = 0, None, {}, inode
        if size == self.offset or not read_identity(self.folder):
            self._detach()  # another process may wait for its turn, to see what is in the store
            return False
        if self._lock.held:
            return True
        if not self._lock.acquire():
            return False  # another process is sending it
        self._load()
        return True

    def _detach(self) -> None:
        self._lock.release()

    def _load(self) -> None:
        self._identity = read_identity(self.folder)
        saved = saved_position(self.folder, self.place)
        known = bool(saved) and saved["uid"] == self._identity.get("uid") and saved["offset"] <= self.size()
        self.offset, self._seq = (saved["offset"], saved["seq"]) if known else (0, 0)
        self._saved = saved if known else {}

    def _save(self) -> None:
        assert self.found is not None
        self._saved = {
            "uid": self._identity["uid"],
            "run_id": self.found.run_id,
            "experiment_id": self.found.experiment_id,
            "offset": self.offset,
            "seq": self._seq,
        }
        positions = (read_json(self.folder / POSITION) or {}) | {self.place: self._saved}
        write_json_atomic(self.folder / POSITION, positions, durable=False)

    def _find(self, writer: Writer, parents: Parents) -> None:
        """Set `found`. A store that has not all of what was sent (lost, restored from a backup, emptied of its
        artifacts) is sent everything; a parent that was made anew is the parent."""
        self.found = writer.find(uid=self._identity["uid"], run_id=self._saved.get("run_id", ""))
        if self.found is None or self.found.num_bytes < self.offset or not writer.has_folder(self.found):
            self.offset = self._seq = 0
        if self.found is not None and self.found.deleted:
            self.deleted = True
            self._stop(f"its run {self.found.run_id} was deleted in the store")
        elif self.found is not None and (signature := self._identity.get("parent")):
            parent = parents(signature)
            if parent is not None and parent.run_id != self.found.parent:
                for key, value in self._under(parent).items():
                    writer.set_tag(self.found.run_id, key, value)

    def _under(self, sweep: Found) -> dict[str, str]:
        label = self._identity.get("tags", {}).get(names.LABEL) or self._identity.get("variant", "")
        return {names.PARENT_RUN: sweep.run_id, sweep.membership: str(label)}

    def _next(self) -> tuple[list[Record], int]:
        if self.stopped:
            return [], 0
        with (self.folder / JOURNAL).open("rb") as file:
            os.fsync(file.fileno())  # what the store has seen, the journal must not lose in a power cut
            file.seek(self.offset)
            block = file.read(BLOCK_BYTES)
            if b"\n" not in block:
                block += file.read()
        records, taken = scan(block, after=self._seq)
        if not records and b"\n" in block:
            self._examine()
        return records, taken

    def _examine(self) -> None:
        """A whole line that is no record: a write in progress, a torn end, a wrong position, or damage."""
        try:
            records = read(self.folder / JOURNAL)
        except ValueError as error:
            self._stop(str(error))
            return
        if len(records) > self._seq:
            self.offset = self._seq = 0

    def _stop(self, reason: str) -> None:
        self.stopped = reason
        log.error("%s is no longer sent to MLflow: %s", self.folder, reason)
        self._detach()

    def _send(self, records: Sequence[Record], taken: int, writer: Writer, parents: Parents) -> None:
        ended = self.offset + taken == self.size() and read_status(self.folder)[0] in TERMINAL
        if ended and self.offset:
            now = writer.find(uid=self._identity["uid"])
            if now is None or now.num_bytes < self.offset:  # replaced by an older state while it was sent to
                self.found, self.offset, self._seq = now, 0, 0
                return
        tags: dict[str, str] = {}
        if self.found is None:
            self.found = writer.create(self._identity, start_ms=records[0].ms)
        for record in records:
            signature = record.data.get("parent") if record.kind == "status" else None
            parent = parents(signature) if signature else None
            if parent is not None:
                tags |= self._under(parent)
        writer.send(self.found.run_id, records, tags, folder=self.folder, uid=self._identity["uid"])
        self.offset, self._seq = self.offset + taken, records[-1].seq
        writer.mark(self.found.run_id, self.offset, folder=self.folder if ended else None)

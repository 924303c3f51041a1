"""Carries journals into MLflow from a background thread. Whoever trains never waits for the store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from stridelab.text import plural

from .journal_cursor import Cursor, Pause, place_of, saved_position
from .mlflow_writer import Found, Writer
from .run import read_identity
from .settings import redact
from .status import put_aside_damaged, repair, run_folders
from .store import Store, apply_settings, remedy

INTERVAL_S = 0.5
"""Between looks at the journals."""
CLOSE_S = 30.0
"""Waited for a store on leaving the `with` block, while it answers."""
FAILING_S, LAST_TRY_S = 4.0, 1.0
"""Patience at the end with a store that fails: since it began to, and at least."""
STALLED_S = 15.0
"""A store that is this long over one stretch of a journal is taken for failing."""

log = logging.getLogger(__name__)


class Mirror:
    """Follows run folders, those of other processes too, and sends what is new in their journals. Troubles of
    the store are its own affair: it warns once and tries again. Leaving its `with` block flushes."""

    def __init__(self, store: Store, *, training: bool = True, resend: str = "") -> None:
        """`resend`: the command that sends what is missing, as the reader types it."""
        self.store = store
        self._resend = resend
        self.remedy = ""
        """What a person can do about a store that waiting does not mend."""
        self._training = training
        self._place = place_of(store)
        self._cursors: dict[Path, Cursor] = {}
        self._writer: Writer | None = None
        self._pause = Pause()
        self._sending_since = 0.0
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._closing = self._told = self._recheck = False
        self._looked: set[Path] = set()
        self._thread = threading.Thread(target=self._work, name="mlflow-mirror", daemon=True)

    def __enter__(self) -> Mirror:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def watch(self, folder: Path) -> None:
        """Follow a run's folder from now on; it need not exist yet. A sweep's comes before its runs'."""
        apply_settings()
        folder = Path(folder).absolute()
        with self._changed:
            if folder not in self._cursors:
                self._cursors[folder] = Cursor(folder, place=self._place)
            if self._thread.ident is None and not self._closing:
                self._start()
        self._wake.set()

    def locate(self, folder: Path) -> Found | None:
        """Where a folder's run is in MLflow; None before its first records are there (`flush` first)."""
        cursor = self._cursors.get(Path(folder).absolute())
        return cursor.found if cursor else None

    def flush(self, timeout_s: float, *, patient: bool = True, recheck: bool = False) -> bool:
        """Wait until all that the journals hold now is in the store; whether it is. Not `patient`: a store that has
        been failing for a while, or is long over one answer, gets no more than another try. `recheck`: see whether
        the store still has what it was sent before."""
        sizes = {cursor: cursor.size() for cursor in list(self._cursors.values())}
        began = time.monotonic()
        self._recheck |= recheck
        if timeout_s > 0:  # else nobody waits for what another try would bring
            for pause in (self._pause, *(cursor.pause for cursor in sizes)):
                pause.skip()
            self._wake.set()
        with self._changed:
            while behind := self._behind(sizes):
                until = began + timeout_s
                if not patient and (failing := self._failing(behind)):
                    until = min(until, max(began + LAST_TRY_S, failing + FAILING_S))
                if self.remedy and self._pause.last >= began:
                    return False
                left = until - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                self._changed.wait(min(left, INTERVAL_S))
        return all(cursor.has_sent(size) for cursor, size in sizes.items())

    def _behind(self, sizes: Mapping[Cursor, int]) -> list[Cursor]:
        return [one for one, size in sizes.items() if (self._recheck or not one.has_sent(size)) and not one.stopped]

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """Flush, and stop. What could not be sent stays in the journals: `sync` sends it later."""
        done = self.flush(timeout_s, patient=False)
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S if done else INTERVAL_S)
        if not done and not self._told:
            log.warning("%s", self.what_is_missing())
        return done

    def what_is_missing(self) -> str:
        """Sentences for a person, who is told once."""
        self._told = True
        count = sum(not cursor.has_sent(cursor.size()) for cursor in list(self._cursors.values()))
        later = f", and `{self._resend}` with the same paths and tracking sends it" if self._resend else ""
        advice = f" What helps: {self.remedy}." if self.remedy else ""
        return (
            f"{plural(count, 'run')} {'is' if count == 1 else 'are'} not yet complete in {redact(self.store.uri)}. "
            f"Nothing is lost: the run folders have all of it{later}.{advice}"
        )

    def what_is_odd(self) -> list[str]:
        """Sentences about runs that were deleted in the store, and journals that cannot be sent."""
        cursors = list(self._cursors.values())
        said = [f"{one.folder}: {one.stopped}" for one in cursors if one.stopped and not one.deleted]
        deleted = [one for one in cursors if one.deleted]
        if deleted:
            ids = ", ".join(one.found.run_id for one in deleted if one.found)
            said.append(
                f"deleted in the store and left so: {ids}. Their folders have them, and tables are made from those; "
                "`mlflow runs restore --run-id <id>` brings them back into the store."
            )
        return said

    def _failing(self, behind: Sequence[Cursor]) -> float:
        """Since when (monotonic) nothing of these can be sent, or one answer is waited for too long; 0 while sending
        goes on."""
        pauses = [self._pause] if self._pause.length_s else [cursor.pause for cursor in behind]
        if all(pause.length_s for pause in pauses):
            return max(pause.since for pause in pauses)
        since = self._sending_since if self.store.database is None else 0.0  # a file answers, or says that it is locked
        return since if since and time.monotonic() > since + STALLED_S else 0.0

    def _start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:  # the system grants no more threads
            log.warning("nothing is sent to MLflow for now (%s); the journals keep all of it.", error)

    def _work(self) -> None:
        import mlflow  # noqa: F401  takes seconds, which are no server's fault

        while not self._closing:
            self._wake.wait(INTERVAL_S)
            self._wake.clear()
            if self._pause.is_over():
                try:
                    self._send_all()
                except Exception:  # ours, then; the caller's run goes on all the same
                    log.exception("sending to MLflow failed; it is tried again.")
                    self._pause.begin()
            with self._changed:
                self._changed.notify_all()
        for cursor in self._cursors.values():
            cursor.close()

    def _send_all(self) -> None:
        """A stretch of each journal in turn, until nothing is left or the store fails."""
        left = True
        if self._writer is not None and self._writer.is_replaced:
            log.warning("another file is where the store %s was; it is sent what it lacks.", self.store.database)
            self._writer, self._recheck = None, True
        while left:
            left = False
            for cursor in list(self._cursors.values()):
                if cursor.pause.is_over():
                    self._sending_since = time.monotonic()
                    try:
                        self._writer = self._writer or Writer(self.store)
                        self._look_ahead(self._writer)
                        left |= cursor.pump(self._writer, parents=self._parent)
                        cursor.pause.forget()
                    except Exception as error:
                        if not self._blame(cursor, error):
                            return
                    finally:
                        self._sending_since = 0.0
        self.remedy = ""
        if self._pause.length_s:
            log.info("the MLflow store answers again.")
            self._pause.forget()

    def _look_ahead(self, writer: Writer) -> None:
        """Ask once for all runs that were sent before this process, or that shall be looked for again."""
        cursors = list(self._cursors.values())
        if self._recheck:
            for cursor in cursors:
                cursor.rewind()
            self._looked.clear()
            self._recheck = False
        if len(self._looked) < len(cursors):  # asked for each stretch: of 5,000 folders, seconds
            new = [one.folder for one in cursors if one.folder not in self._looked]
            ids = [saved_position(folder, self._place).get("run_id", "") for folder in new]
            writer.look([one for one in ids if one])
            self._looked.update(new)

    def _blame(self, cursor: Cursor, error: Exception) -> bool:
        """Whether the store answers otherwise; then the one cursor pauses, else all."""
        try:
            answers = self._writer is not None
            if self._writer is not None:
                self._writer.ping()
        except Exception:
            answers = False
        pause = cursor.pause if answers else self._pause
        self.remedy = "" if answers else remedy(error, self.store)
        if not pause.length_s:
            self._warn(cursor if answers else None, error)
        pause.begin()
        if not answers:
            self._writer = None
        return answers

    def _warn(self, cursor: Cursor | None, error: Exception) -> None:
        said = redact(f"{type(error).__name__}: {error}").splitlines()[0][:300]
        if cursor is None:
            log.warning(
                "the MLflow store %s does not take runs (%s). %s; the run folders keep all of it%s.",
                redact(self.store.uri),
                said,
                "Training goes on" if self._training else "Nothing is training",
                f". What helps: {self.remedy}" if self.remedy else ", and it is sent when the store answers",
            )
        else:
            log.warning("MLflow does not take the run in %s (%s); it is tried again.", cursor.folder, said)

    def _parent(self, signature: str) -> Found | None:
        assert self._writer is not None
        for cursor in list(self._cursors.values()):
            if cursor.is_sweep(signature):
                if cursor.found is None:
                    cursor.pump(self._writer, parents=self._parent)
                if cursor.found is not None:
                    return cursor.found
        return self._writer.find_sweep(signature=signature)


@dataclass(frozen=True)
class Synced:
    complete: bool
    """Whether the store holds all that the journals hold."""
    said: tuple[str, ...]
    """Sentences for a person: what is missing and what helps, what was put aside, what was deleted in the store."""


def sync(store: Store, results_dir: Path, *, timeout_s: float = 600.0) -> Synced:
    """Send whatever the journals under a results folder hold and the store does not. Runs that were cut off are
    settled first. A store that waiting does not mend is not waited for."""
    aside = put_aside_damaged(results_dir)
    repair(results_dir)
    known = [folder for folder in run_folders(results_dir) if read_identity(folder)]
    return send_folders(store, known, timeout_s=timeout_s, said=aside)


def send_folders(store: Store, folders: Sequence[Path], *, timeout_s: float, said: Sequence[str] = ()) -> Synced:
    mirror = Mirror(store, training=False)
    try:
        for folder in folders:
            mirror.watch(folder)
        complete = mirror.flush(timeout_s)
        missing = [] if complete else [mirror.what_is_missing()]
        return Synced(complete, (*said, *missing, *mirror.what_is_odd()))
    finally:
        mirror.close(timeout_s=0.0)

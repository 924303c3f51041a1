"""Carries journals into MLflow from a background thread. Whoever trains never waits for the store."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from .journal_cursor import Feed, Pause, place_of
from .mlflow_writer import Found, Sink
from .settings import redact
from .status import repair, run_folders
from .store import Store, apply_settings

INTERVAL_S = 0.5
"""Between looks at the journals."""
CLOSE_S = 30.0
"""Waited for a store on leaving the `with` block, while it answers."""
FAILING_S, LAST_TRY_S = 4.0, 1.0
"""Patience at the end with a store that fails: since it began to, and at least."""

log = logging.getLogger(__name__)


class Mirror:
    """Follows run folders, those of other processes too, and sends what is new in their journals. Troubles of
    the store are its own affair: it warns once and tries again. Leaving its `with` block flushes."""

    def __init__(self, uri: str, artifact_root: str, experiment: str) -> None:
        self.store = Store(uri, artifact_root, experiment)
        self._place = place_of(uri)
        self._feeds: dict[Path, Feed] = {}
        self._sink: Sink | None = None
        self._pause = Pause()
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._closing = self._told = False
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
            if folder not in self._feeds:
                self._feeds[folder] = Feed(folder, place=self._place)
            if self._thread.ident is None and not self._closing:
                self._start()
        self._wake.set()

    def locate(self, folder: Path) -> Found | None:
        """Where a folder's run is in MLflow; None before its first records are there (`flush` first)."""
        feed = self._feeds.get(Path(folder).absolute())
        return feed.found if feed else None

    def flush(self, timeout_s: float, *, patient: bool = True) -> bool:
        """Wait until all that the journals hold now is in the store; whether it is. Not `patient`: a store that has
        been failing for a while gets one more try."""
        sizes = {feed: feed.size() for feed in list(self._feeds.values())}
        began = time.monotonic()
        with self._changed:
            while behind := [feed for feed, size in sizes.items() if not feed.has_sent(size) and not feed.stopped]:
                until = began + timeout_s
                if not patient and (failing := self._failing(behind)):
                    until = min(until, max(began + LAST_TRY_S, failing + FAILING_S))
                left = until - time.monotonic()
                if left <= 0 or not self._thread.is_alive():
                    return False
                for pause in (self._pause, *(feed.pause for feed in sizes)):
                    pause.skip()
                self._wake.set()
                self._changed.wait(min(left, INTERVAL_S))
        return all(feed.has_sent(size) for feed, size in sizes.items())

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
        """A sentence for a person, who is told once."""
        self._told = True
        count = sum(not feed.has_sent(feed.size()) for feed in list(self._feeds.values()))
        return (
            f"{count} runs are not yet complete in {redact(self.store.uri)}. Nothing is lost: the run folders have all "
            "of it, and `stridelab runs sync` with the same paths and tracking sends it."
        )

    def _failing(self, behind: Sequence[Feed]) -> float:
        """Since when (monotonic) nothing of these can be sent; 0 while something can."""
        pauses = [self._pause] if self._pause.length_s else [feed.pause for feed in behind]
        return max(pause.since for pause in pauses) if all(pause.length_s for pause in pauses) else 0.0

    def _start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError as error:  # the system grants no more threads
            log.warning("nothing is sent to MLflow for now (%s); the journals keep all of it.", error)

    def _work(self) -> None:
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
        for feed in self._feeds.values():
            feed.close()

    def _send_all(self) -> None:
        """A stretch of each journal in turn, until nothing is left or the store fails."""
        left = True
        while left:
            left = False
            for feed in list(self._feeds.values()):
                if feed.pause.is_over():
                    try:
                        self._sink = self._sink or Sink(self.store)
                        left |= feed.pump(self._sink, parents=self._parent)
                        feed.pause.forget()
                    except Exception as error:
                        if not self._blame(feed, error):
                            return
        if self._pause.length_s:
            log.info("the MLflow store answers again.")
            self._pause.forget()

    def _blame(self, feed: Feed, error: Exception) -> bool:
        """Whether the store answers otherwise; then the one feed pauses, else all."""
        try:
            answers = self._sink is not None
            if self._sink is not None:
                self._sink.ping()
        except Exception:
            answers = False
        pause = feed.pause if answers else self._pause
        if not pause.length_s:
            self._warn(feed if answers else None, error)
        pause.begin()
        if not answers:
            self._sink = None
        return answers

    def _warn(self, feed: Feed | None, error: Exception) -> None:
        said = redact(f"{type(error).__name__}: {error}").splitlines()[0][:300]
        if feed is None:
            log.warning(
                "the MLflow store %s does not take runs (%s). Training goes on; the journals keep all of it, "
                "and it is sent when the store answers.",
                redact(self.store.uri),
                said,
            )
        else:
            log.warning("MLflow does not take the run in %s (%s); it is tried again.", feed.folder, said)

    def _parent(self, signature: str) -> str | None:
        assert self._sink is not None
        for feed in list(self._feeds.values()):
            if feed.is_sweep(signature):
                if feed.found is None:
                    feed.pump(self._sink, parents=self._parent)
                if feed.found is not None:
                    return feed.found.run_id
        found = self._sink.find_sweep(signature=signature)
        return found.run_id if found else None


def sync(store: Store, results_dir: Path, *, timeout_s: float = 600.0) -> bool:
    """Send whatever the journals under a results folder hold and the store does not; whether it is all there
    now. Runs that were cut off are settled first."""
    repair(results_dir)
    mirror = Mirror(store.uri, store.artifact_root, store.experiment)
    try:
        for folder in run_folders(results_dir):
            mirror.watch(folder)
        return mirror.flush(timeout_s)
    finally:
        mirror.close(timeout_s=0.0)

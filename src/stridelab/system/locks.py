"""Locks between processes. A lock is a file that names its holder; the system lets go of it when the holder dies.

A cluster may start a job anew because its node seemed dead, while the first attempt, its ghost, still runs there and
holds the lock. The lock is a lease therefore: the later attempt of the same job takes it over, and the ghost's
`confirm` then raises.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LOOK_AGAIN_S = 0.05
PROBES, PROBE_PAUSE_S = 4, 0.002
"""`is_locked` takes the lock for microseconds: two that look at the same moment must not see each other."""
NOT_SUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
"""What a file system, or a Python, without native locks answers."""
JOB, RESTART = "SLURM_JOB_ID", "SLURM_RESTART_COUNT"
"""Variables in which Slurm tells a process its job, the same in every attempt, and how often that was started anew."""
AT = 1
"""Where the holder's name begins: Windows lets nobody else read the first byte, the one that is locked."""


class Lock:
    """Exclusive, also between two `Lock`s of one process. Where there are no native locks, a second file whose
    existence is the lock stands in; one that a dead process of this machine left is known by its process id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        self._soft: Any = None
        self._signed: dict[str, Any] = {}
        self.taken_over = False
        """Whether its last holder was an earlier attempt of this process's job, maybe a ghost that still has files of
        what it guards open."""

    @property
    def held(self) -> bool:
        return self._file >= 0

    def acquire(self) -> bool:
        """Take the lock if nobody has it, or an earlier attempt of this process's job, and write its holder into the
        file; whether it is ours now."""
        assert not self.held, self.path
        self.taken_over = is_ghost(read_holder(self.path))
        if not self._take(os.O_CREAT) and not (self.taken_over and self._take_from_ghost()):
            return False
        signed = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        self._signed = signed | attempt()
        os.ftruncate(self._file, 0)
        os.write(self._file, b" " * AT + json.dumps(self._signed).encode())
        return True

    def confirm(self) -> None:
        """BlockingIOError when a later attempt of this process's job has taken the lock over."""
        if "job" in self._signed and (known := read_holder(self.path)) and known != self._signed:
            raise BlockingIOError(errno.EAGAIN, f"{holder(self.path)}, has taken this over", str(self.path))

    def _take_from_ghost(self) -> bool:
        """Its files keep its locks, but not their names. A third process may be quicker than this one."""
        for path in (self.path, self._soft_path):
            path.unlink(missing_ok=True)
        return self._take(os.O_CREAT)

    @property
    def _soft_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.held")

    def _take(self, flags: int) -> bool:
        from filelock import lock_descriptor

        file = os.open(self.path, os.O_RDWR | flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            taken = lock_descriptor(file, blocking=False)
        except OSError as error:
            if error.errno not in NOT_SUPPORTED:
                os.close(file)
                raise
            taken = self._take_soft()
        if taken and os.fstat(file).st_nlink:  # else the file was removed meanwhile: its lock guards no name
            self._file = file
            return True
        os.close(file)
        return False

    def _take_soft(self) -> bool:
        from filelock import SoftFileLock, Timeout

        soft = SoftFileLock(self._soft_path, thread_local=False)
        try:
            soft.acquire(blocking=False)
        except Timeout:
            return False
        self._soft = soft
        return True

    def release(self) -> None:
        """Harmless when it is not held."""
        if self._soft is not None:
            self._soft.release()
            self._soft = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def is_locked(path: Path) -> bool:
    """Whether somebody, this process included, holds the lock of this file; False when there is no such file."""
    for _ in range(PROBES):
        lock = Lock(path)
        try:
            if lock._take(0):
                lock.release()
                return False
        except FileNotFoundError:
            return False
        time.sleep(PROBE_PAUSE_S)
    return True


def holder(path: Path) -> str:
    """`process 4711 on anna, since 2026-01-31 12:00:00`: who holds the lock, or held it last."""
    known = read_holder(path)
    job = f" of job {known['job']}" if known.get("job") else ""
    try:
        return f"process {known['pid']} on {known['host']}{job}, since {known['since']}"
    except KeyError:
        return "a process that has not given its name"


def read_holder(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            file.seek(AT)
            known = json.loads(file.read())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def attempt() -> dict[str, Any]:
    """Which attempt of which job of a cluster this process is; empty outside of jobs."""
    job = os.environ.get(JOB)
    return {"job": job, "restart": int(os.environ.get(RESTART) or 0)} if job else {}


def is_ghost(known: dict[str, Any]) -> bool:
    """Whether the holder is an earlier attempt of this process's own job."""
    ours = attempt()
    return bool(ours) and known.get("job") == ours["job"] and known.get("restart", 0) < ours["restart"]


@contextmanager
def locked(path: Path, *, waits: Callable[[str], None] = lambda holder: None) -> Iterator[None]:
    """Hold the lock in the block. `waits` is called once, with the holder, when another process has it."""
    lock, told = Lock(path), False
    while not lock.acquire():
        if not told:
            waits(holder(path))
            told = True
        time.sleep(LOOK_AGAIN_S)
    try:
        yield
    finally:
        lock.release()

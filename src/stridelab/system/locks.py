"""Locks between processes. A lock is a file that names its holder; the system lets go of it when the holder dies."""

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
AT = 1
"""Where the holder's name begins: Windows lets nobody else read the first byte, the one that is locked."""


class Lock:
    """Exclusive, also between two `Lock`s of one process. Where there are no native locks, a second file whose
    existence is the lock stands in; one that a dead process of this machine left is known by its process id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1
        self._soft: Any = None

    @property
    def held(self) -> bool:
        return self._file >= 0

    def acquire(self) -> bool:
        """Take the lock if nobody has it, and write its holder into the file; whether it is ours now."""
        assert not self.held, self.path
        if not self._take(os.O_CREAT):
            return False
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(self._file, 0)
        os.write(self._file, b" " * AT + json.dumps(holder).encode())
        return True

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

        soft = SoftFileLock(f"{self.path}.held", thread_local=False)
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
    try:
        with path.open("rb") as file:
            file.seek(AT)
            known = json.loads(file.read())
        return f"process {known['pid']} on {known['host']}, since {known['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a process that has not given its name"


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

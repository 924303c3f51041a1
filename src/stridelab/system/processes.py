"""Cores, signals, processes and their limits, on Linux, macOS and Windows."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WATCH_S = 0.2
STOPS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What a scheduler or a container sends, and, where there are terminals that do, a closed terminal."""
CRASHES = tuple(
    getattr(signal, name) for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL") if hasattr(signal, name)
)
KILL = getattr(signal, "SIGKILL", signal.SIGTERM)
PR_SET_PDEATHSIG = 1
"""From Linux's sys/prctl.h."""


def usable_cores() -> int:
    """Logical cores that this process may use."""
    for ask in ("process_cpu_count", "cpu_count"):  # the first from Python 3.13 on
        if ask == "cpu_count" and hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        if count := getattr(os, ask, lambda: None)():
            return int(count)
    return 1


def process_context(preload: Sequence[str]) -> Any:
    """How child processes are made: by one warm process that has imported the modules `preload` where there can be
    one, else each from nothing."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def warm_up(context: Any) -> None:
    """Start the warm process of `process_context` now, in the background. A Ctrl-C reaches it too, while it imports; it
    inherits that this process ignores it."""
    if context.get_start_method() == "forkserver":
        from multiprocessing import forkserver

        with undisturbed():
            forkserver.ensure_running()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ctrl-C is ignored, where this thread can say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def die_with_parent() -> None:
    """Let this child be killed when the process that started it goes: by Linux at once; elsewhere, and where a warm
    process stands between the two, which lives as long as its children, by a thread that looks a few times a second."""
    parent, starter = os.getppid(), multiprocessing.parent_process()
    if not _killed_by_linux() or (starter is not None and starter.pid != parent):
        threading.Thread(target=_watch, args=(parent,), name="watch-parent", daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _killed_by_linux() -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, KILL) == 0)
    except (AttributeError, OSError):
        return False


def _watch(parent: int) -> None:
    starter = multiprocessing.parent_process()
    while os.getppid() == parent and (starter is None or starter.is_alive()):
        time.sleep(WATCH_S)
    os._exit(1)


def open_files(wanted: int) -> int | None:
    """Raise this process's limit of open files to `wanted`, as far as the system lets us; the most that it lets us
    have, None where there is no limit to know of."""
    try:
        import resource
    except ImportError:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = None if hard == resource.RLIM_INFINITY else hard
    goal = wanted if most is None else min(wanted, most)
    if soft < goal:
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
    return most


def oom_kills() -> int:
    """Processes that Linux has killed for want of memory since it started; 0 where the system does not say."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
